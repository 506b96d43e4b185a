//! The static check of `workflow!`: validates names and finds cycles while the program compiles (semantics A2).
//!
//! Constant evaluation cannot allocate memory. So a cycle is stored as indices, and messages are written into a fixed buffer.
//!
//! See docs/explanation/decisions/070-rust-definitions.md

use super::{ParameterName, TaskNames};

/// Maximum length of a message in bytes. A part that does not fit is left out.
const MAX_MESSAGE: usize = 1000;
/// Maximum length, in bytes, of the names that are compared to find a similar name.
const MAX_COMPARED: usize = 64;

/// The names and the graph of a workflow, checked in constant evaluation.
#[doc(hidden)]
#[derive(Debug)]
pub struct StaticCheck<const N: usize> {
    name: &'static str,
    tasks: [TaskNames; N],
    /// For each task on the cycle that was found, the task on this cycle that depends on it. Entries of other tasks
    /// are not used.
    cycle: [Option<usize>; N],
    /// The first task of the cycle in declaration order. The cycle is reported at this task. `None`: there is no
    /// cycle.
    cycle_start: Option<usize>,
}

impl<const N: usize> StaticCheck<N> {
    /// Creates a check, and looks for a cycle. [`check`](Self::check) then validates the tasks one by one.
    pub const fn new(name: &'static str, tasks: [TaskNames; N]) -> Self {
        let mut needs = [[false; N]; N];
        let mut task = 0;
        while task < N {
            mark_needed(&tasks, tasks[task].dependencies, &mut needs[task]);
            mark_needed(&tasks, tasks[task].rule_tasks, &mut needs[task]);
            mark_parameters(&tasks, tasks[task].parameters, &mut needs[task]);
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

    /// Validates the task with this index.
    ///
    /// The compiler reports an error at the caller's location. The macro sets this location to the task in the user's source.
    ///
    /// # Panics
    /// If the task is invalid; the panic message becomes the compiler's error.
    #[track_caller]
    pub const fn check(&self, task: usize) {
        let id = self.tasks[task].id;
        let mut earlier = 0;
        while earlier < task {
            if equal(self.tasks[earlier].id, id) {
                let text = self.message().add("has two tasks with the id '").add(id);
                text.add("'\nhint: give one of them another id = \"...\"")
                    .fail();
            }
            let result = result_of(&self.tasks[task]);
            if equal(result_of(&self.tasks[earlier]), result) {
                let text = self.message().add("has two tasks whose result is '");
                text.add(result)
                    .add("'\nhint: give one of them another output = \"...\"")
                    .fail();
            }
            earlier += 1;
        }
        self.check_names(task, self.tasks[task].dependencies, "depends on");
        let what = "has a trigger rule that names";
        self.check_names(task, self.tasks[task].rule_tasks, what);
        let parameters = self.tasks[task].parameters;
        let mut index = 0;
        while index < parameters.len() {
            if let Some(from) = parameters[index].task {
                self.check_names(task, &[from], "has a parameter that is the result of");
            }
            index += 1;
        }
        if let Some(start) = self.cycle_start
            && start == task
        {
            let mut text = self.message().add("has a cycle: ").add(id);
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

    /// Validates a key of the output. The key must be the result of a task. The key is not checked if the workflow declares
    /// an input, because the key can then be a field of the input. It is also not checked if a task has no result, because
    /// that task can write the key.
    ///
    /// # Panics
    /// If no task has this result; the panic message becomes the compiler's error.
    #[track_caller]
    pub const fn check_output(&self, key: &str, has_input: bool) {
        let mut is_open = has_input;
        let mut task = 0;
        while task < N {
            is_open |= self.tasks[task].result.is_none();
            if equal(result_of(&self.tasks[task]), key) {
                return;
            }
            task += 1;
        }
        if is_open {
            return;
        }
        let text = self.message().add("has the output '").add(key);
        let text = text.add("', which is not the result of a task");
        match self.nearest(key) {
            Some(near) => text.add("\nhint: did you mean '").add(near).add("'?"),
            None => text,
        }
        .fail();
    }

    #[track_caller]
    const fn check_names(&self, task: usize, names: &[&str], what: &str) {
        let mut index = 0;
        while index < names.len() {
            if position(&self.tasks, names[index]).is_none() {
                let text = Message::new().add("task '").add(self.tasks[task].id);
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

    const fn message(&self) -> Message {
        Message::new().add("workflow '").add(self.name).add("' ")
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
                // From now on, only a closer name is accepted.
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

const fn mark_needed<const N: usize>(
    tasks: &[TaskNames; N],
    names: &[&str],
    needs: &mut [bool; N],
) {
    let mut index = 0;
    while index < names.len() {
        if let Some(needed) = position(tasks, names[index]) {
            needs[needed] = true;
        }
        index += 1;
    }
}

/// Marks the tasks whose results are parameters.
const fn mark_parameters<const N: usize>(
    tasks: &[TaskNames; N],
    parameters: &[ParameterName],
    needs: &mut [bool; N],
) {
    let mut index = 0;
    while index < parameters.len() {
        if let Some(needed) = position(tasks, parameters[index].task_or_name()) {
            needs[needed] = true;
        }
        index += 1;
    }
}

/// Returns the key of a task's result.
const fn result_of(task: &TaskNames) -> &'static str {
    match task.result {
        Some(result) => result,
        None => task.id,
    }
}

/// Finds a cycle. Repeatedly removes a task whose dependencies have all been removed. If tasks remain, follows their
/// dependencies until a task is visited again. This task is on a cycle. Returns, for each task on the cycle, the task
/// on the cycle that depends on it. Also returns the first task of the cycle in declaration order.
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
    let mut removed = 0;
    while removed < free_count {
        let done = free[removed];
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
        removed += 1;
    }
    let mut next_on_cycle = [None; N];
    if free_count == N {
        return (next_on_cycle, None);
    }
    let mut current = 0;
    while open[current] == 0 {
        current += 1;
    }
    // Each remaining task depends on a remaining task, which can be the task itself.
    let mut seen = [false; N];
    while !seen[current] {
        seen[current] = true;
        let mut needed = 0;
        while !needs[current][needed] || open[needed] == 0 {
            needed += 1;
        }
        next_on_cycle[needed] = Some(current);
        current = needed;
    }
    // `current` is on the cycle. Find the first task of the cycle in declaration order.
    let mut start = current;
    let mut other = current;
    while let Some(next) = next_on_cycle[other] {
        if next < start {
            start = next;
        }
        other = next;
        if other == current {
            break;
        }
    }
    (next_on_cycle, Some(start))
}

const fn position<const N: usize>(tasks: &[TaskNames; N], id: &str) -> Option<usize> {
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
    if left.len() > MAX_COMPARED || right.len() > MAX_COMPARED {
        return usize::MAX;
    }
    let mut row = [0_usize; MAX_COMPARED + 1];
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

/// A message that is assembled in constant evaluation.
struct Message {
    bytes: [u8; MAX_MESSAGE],
    length: usize,
}

impl Message {
    const fn new() -> Self {
        Self {
            bytes: [0; MAX_MESSAGE],
            length: 0,
        }
    }

    /// Appends the text, or nothing if it does not fit.
    const fn add(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if self.length + text.len() <= MAX_MESSAGE {
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

    const fn task(id: &'static str, dependencies: &'static [&'static str]) -> TaskNames {
        TaskNames {
            id,
            dependencies,
            rule_tasks: &[],
            result: None,
            parameters: &[],
            result_kinds: None,
            resources: &[],
        }
    }

    fn errors<const N: usize>(tasks: [TaskNames; N]) -> Vec<String> {
        let workflow = StaticCheck::new("etl", tasks);
        let error = |task| catch_unwind(|| workflow.check(task)).err();
        (0..N)
            .filter_map(error)
            .map(|panic| *panic.downcast::<String>().unwrap())
            .collect()
    }

    #[test]
    fn a2_valid_workflow_passes_the_static_check() {
        let rule = TaskNames {
            rule_tasks: &["c", "a"],
            ..task("d", &["b"])
        };
        let tasks = [rule, task("c", &["b"]), task("b", &["a"]), task("a", &[])];
        assert!(errors(tasks).is_empty());
    }

    #[test]
    fn a2_each_fault_is_reported_once_with_its_task() {
        assert_eq!(
            errors([task("load", &[]), task("load", &[])]),
            [
                "workflow 'etl' has two tasks with the id 'load'\nhint: give one of them another id = \"...\""
            ]
        );
        assert_eq!(
            errors([task("load", &[]), task("sum", &["lode"])]),
            [
                "task 'sum' of workflow 'etl' depends on unknown task 'lode'\nhint: did you mean 'load'?"
            ]
        );
        assert_eq!(
            errors([
                task("x", &[]),
                task("c", &["b", "x"]),
                task("b", &["a"]),
                task("a", &["c"])
            ]),
            [
                "workflow 'etl' has a cycle: c -> a -> b -> c\nhint: remove one of these dependencies"
            ]
        );
        let own = TaskNames {
            rule_tasks: &["a"],
            ..task("a", &[])
        };
        assert!(errors([own])[0].starts_with("workflow 'etl' has a cycle: a -> a"));
    }
}
