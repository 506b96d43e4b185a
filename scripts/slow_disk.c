/* A disk that is slow to say that what was written is safe, for scripts/chaos.py.
 *
 *     cc -shared -fPIC -o slow_disk.so slow_disk.c
 *     SLOW_DISK=/path/of/switch LD_PRELOAD=/path/of/slow_disk.so program
 *
 * While the file SLOW_DISK exists, each fsync and fdatasync of the program takes as many milliseconds longer as the file
 * says, and adds a byte to the file SLOW_DISK.count, so that it can be seen that it happened. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_if_slow(void) {
    const char *path = getenv("SLOW_DISK");
    char text[16] = {0}, counter[4096];
    int before = errno, file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        ssize_t length = read(file, text, sizeof text - 1);
        long milliseconds = length > 0 ? atol(text) : 0;
        struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000};
        close(file);
        snprintf(counter, sizeof counter, "%s.count", path);
        file = open(counter, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (file >= 0) {
            if (write(file, ".", 1) != 1) { /* one is not counted */ }
            close(file);
        }
        /* The server gets signals all the time. */
        while (nanosleep(&rest, &rest) != 0 && errno == EINTR) { }
    }
    errno = before;
}

int fsync(int file) {
    wait_if_slow();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    wait_if_slow();
    return (int)syscall(SYS_fdatasync, file);
}
