/* Slows down fsync and fdatasync of a program, for scripts/chaos.py.
 *
 *     cc -shared -fPIC -o slow_disk.so slow_disk.c
 *     SLOW_DISK=/path/of/switch LD_PRELOAD=/path/of/slow_disk.so program
 *
 * The variable SLOW_DISK contains the path of the switch file. While the switch file exists, each fsync and fdatasync of the
 * program takes longer. The switch file contains the additional time in milliseconds. Each slow call adds a byte to the counter
 * file $SLOW_DISK.count, if that file exists. */

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
            if (write(file, ".", 1) != 1) { /* this call is not counted */ }
            close(file);
        }
        /* Resumes an interrupted pause, because the PostgreSQL server receives many signals. */
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
