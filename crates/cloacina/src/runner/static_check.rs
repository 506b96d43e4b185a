//! What `workflow!` checks while the program compiles: names and cycles (semantics A2).
//!
//! Everything here runs in the compiler, so there is no allocation: a fault is kept as indices, and its sentence is
//! written into a fixed buffer when it is reported.

use super::TaskOutline;

/// Longer messages are cut.
const MESSAGE: usize = 1000;
/// Longer names have no nearest one.
const NEAREST: usize = 64;

/// The graph of a workflow under construction by the compiler.
#[doc(hidden)]
#[derive(Debug)]
pub struct WorkflowOutline<const N: usize> {
    name: &'static str,
    tasks: [TaskOutline; N],
    /// On a cycle, reported at its first task: who comes after each task on it.
    cycle: [Option<usize>; N],
    cycle_start: Option<usize>,
}

impl<const N: usize> WorkflowOutline<N> {
    /// Looks for a cycle. Names are looked at task by task, by [`check`](Self::check).
    pub const fn new(name: &'static str, tasks: [TaskOutline; N]) -> Self {
        let mut needs = [[false; N]; N];
        let mut task = 0;
        while task < N {
            note(&tasks, tasks[task].dependencies, &mut needs[task]);
            note(&tasks, tasks[task].rule_tasks, &mut needs[task]);
            task += 1;
        }
        let (cycle, cycle_start) = find_cycle(&needs);
        Self {
            name,
            tasks,
            cycle,
            cycle_start,
        }
    }

    /// Reports what is wrong about one task.
    ///
    /// The caller's place, which is the task's in the user's source, is the only one that the compiler shows.
    ///
    /// # Panics
    /// When something is: the message is the compiler's error.
    #[track_caller]
    pub const fn check(&self, task: usize) {
        let id = self.tasks[task].id;
        let mut earlier = 0;
        while earlier < task {
            if equal(self.tasks[earlier].id, id) {
                let text = self.begin().add("has two tasks with the id '").add(id);
                text.add("'\nhint: give one of them another id = \"...\"")
                    .fail();
            }
            earlier += 1;
        }
        self.check_names(task, self.tasks[task].dependencies, "depends on");
        let what = "has a trigger rule that names";
        self.check_names(task, self.tasks[task].rule_tasks, what);
        if let Some(start) = self.cycle_start
            && start == task
        {
            let mut text = self.begin().add("has a cycle: ").add(id);
            let mut current = start;
            while let Some(next) = self.cycle[current] {
                text = text.add(" -> ").add(self.tasks[next].id);
                current = next;
                if current == start {
                    break;
                }
            }
            text.add("\nhint: remove one of these dependencies").fail();
        }
    }

    #[track_caller]
    const fn check_names(&self, task: usize, names: &[&str], what: &str) {
        let mut index = 0;
        while index < names.len() {
            if position(&self.tasks, names[index]).is_none() {
                let text = Text::new().add("task '").add(self.tasks[task].id);
                let text = text
                    .add("' of workflow '")
                    .add(self.name)
                    .add("' ")
                    .add(what);
                let text = text
                    .add(" unknown task '")
                    .add(names[index])
                    .add("'\nhint: ");
                match self.nearest(names[index]) {
                    Some(near) => text.add("did you mean '").add(near).add("'?"),
                    None => text.add("add it to the tasks of this workflow"),
                }
                .fail();
            }
            index += 1;
        }
    }

    const fn begin(&self) -> Text {
        Text::new().add("workflow '").add(self.name).add("' ")
    }

    const fn nearest(&self, typed: &str) -> Option<&'static str> {
        let mut best = None;
        let mut limit = if typed.len() / 3 > 2 {
            typed.len() / 3
        } else {
            2
        };
        let mut task = 0;
        while task < N {
            let distance = edit_distance(typed, self.tasks[task].id);
            if distance <= limit {
                best = Some(self.tasks[task].id);
                // Only a nearer one takes its place.
                if distance == 0 {
                    return best;
                }
                limit = distance - 1;
            }
            task += 1;
        }
        best
    }
}

const fn note<const N: usize>(tasks: &[TaskOutline; N], names: &[&str], needs: &mut [bool; N]) {
    let mut index = 0;
    while index < names.len() {
        if let Some(needed) = position(tasks, names[index]) {
            needs[needed] = true;
        }
        index += 1;
    }
}

/// Takes away what waits for nothing until nothing can be taken; from what is left, walks to a task seen before.
const fn find_cycle<const N: usize>(needs: &[[bool; N]; N]) -> ([Option<usize>; N], Option<usize>) {
    let mut open = [0_usize; N];
    let mut free = [0_usize; N];
    let mut free_count = 0;
    let mut task = 0;
    while task < N {
        let mut other = 0;
        while other < N {
            open[task] += needs[task][other] as usize;
            other += 1;
        }
        if open[task] == 0 {
            free[free_count] = task;
            free_count += 1;
        }
        task += 1;
    }
    let mut taken = 0;
    while taken < free_count {
        let done = free[taken];
        let mut other = 0;
        while other < N {
            if needs[other][done] {
                open[other] -= 1;
                if open[other] == 0 {
                    free[free_count] = other;
                    free_count += 1;
                }
            }
            other += 1;
        }
        taken += 1;
    }
    let mut after = [None; N];
    if free_count == N {
        return (after, None);
    }
    let mut current = 0;
    while open[current] == 0 {
        current += 1;
    }
    // Each task left needs one that is left too.
    let mut seen = [false; N];
    while !seen[current] {
        seen[current] = true;
        let mut needed = 0;
        while !needs[current][needed] || open[needed] == 0 {
            needed += 1;
        }
        after[needed] = Some(current);
        current = needed;
    }
    // On the cycle now: its first task in the order of the list.
    let mut start = current;
    let mut other = current;
    while let Some(next) = after[other] {
        if next < start {
            start = next;
        }
        other = next;
        if other == current {
            break;
        }
    }
    (after, Some(start))
}

const fn position<const N: usize>(tasks: &[TaskOutline; N], id: &str) -> Option<usize> {
    let mut index = 0;
    while index < N {
        if equal(tasks[index].id, id) {
            return Some(index);
        }
        index += 1;
    }
    None
}

const fn equal(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

const fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() > NEAREST || right.len() > NEAREST {
        return usize::MAX;
    }
    let mut row = [0_usize; NEAREST + 1];
    let mut column = 0;
    while column <= right.len() {
        row[column] = column;
        column += 1;
    }
    let mut line = 0;
    while line < left.len() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        column = 0;
        while column < right.len() {
            let mut best = diagonal + (left[line] != right[column]) as usize;
            diagonal = row[column + 1];
            if diagonal + 1 < best {
                best = diagonal + 1;
            }
            if row[column] + 1 < best {
                best = row[column] + 1;
            }
            row[column + 1] = best;
            column += 1;
        }
        line += 1;
    }
    row[right.len()]
}

/// A sentence that is put together in the compiler.
struct Text {
    bytes: [u8; MESSAGE],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; MESSAGE],
            length: 0,
        }
    }

    /// Appends the whole text, or nothing where it does not fit.
    const fn add(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if self.length + text.len() <= MESSAGE {
            let mut index = 0;
            while index < text.len() {
                self.bytes[self.length + index] = text[index];
                index += 1;
            }
            self.length += text.len();
        }
        self
    }

    #[track_caller]
    const fn fail(&self) -> ! {
        let (text, _) = self.bytes.split_at(self.length);
        match std::str::from_utf8(text) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("the workflow is not valid"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    const fn task(id: &'static str, dependencies: &'static [&'static str]) -> TaskOutline {
        TaskOutline {
            id,
            dependencies,
            rule_tasks: &[],
        }
    }

    fn complaints<const N: usize>(tasks: [TaskOutline; N]) -> Vec<String> {
        let outline = WorkflowOutline::new("etl", tasks);
        let complain = |task| catch_unwind(|| outline.check(task)).err();
        (0..N)
            .filter_map(complain)
            .map(|panic| *panic.downcast::<String>().unwrap())
            .collect()
    }

    #[test]
    fn a2_a_valid_workflow_has_no_complaint() {
        let rule = TaskOutline {
            rule_tasks: &["c", "a"],
            ..task("d", &["b"])
        };
        let tasks = [rule, task("c", &["b"]), task("b", &["a"]), task("a", &[])];
        assert!(complaints(tasks).is_empty());
    }

    #[test]
    fn a2_each_fault_is_told_once_and_names_the_culprit() {
        assert_eq!(
            complaints([task("load", &[]), task("load", &[])]),
            [
                "workflow 'etl' has two tasks with the id 'load'\nhint: give one of them another id = \"...\""
            ]
        );
        assert_eq!(
            complaints([task("load", &[]), task("sum", &["lode"])]),
            [
                "task 'sum' of workflow 'etl' depends on unknown task 'lode'\nhint: did you mean 'load'?"
            ]
        );
        assert_eq!(
            complaints([
                task("x", &[]),
                task("c", &["b", "x"]),
                task("b", &["a"]),
                task("a", &["c"])
            ]),
            [
                "workflow 'etl' has a cycle: c -> a -> b -> c\nhint: remove one of these dependencies"
            ]
        );
        let own = TaskOutline {
            rule_tasks: &["a"],
            ..task("a", &[])
        };
        assert!(complaints([own])[0].starts_with("workflow 'etl' has a cycle: a -> a"));
    }
}
