//! The directed acyclic graph of a workflow: dependencies, topological order, levels and ancestors.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::OnceLock;

use super::WorkflowDefinition;
use crate::types::{Error, ErrorCode, Ordinal};

/// The dependencies between tasks, by ordinal. The tasks that a trigger rule names are dependencies too, because they must
/// end before the rule can be evaluated.
#[derive(Debug)]
pub struct Graph {
    ordinals: HashMap<String, Ordinal>,
    dependencies: Vec<Vec<Ordinal>>,
    dependents: Vec<Vec<Ordinal>>,
    order: Vec<Ordinal>,
    /// The index of each task in `order`, by ordinal.
    places: Vec<u32>,
    level: Vec<u32>,
    /// The places of each task's ancestors as a bit set, by ordinal.
    ancestors: OnceLock<Vec<Vec<u64>>>,
}

impl Graph {
    /// Builds the graph of a definition whose names have been validated.
    pub(super) fn build(definition: &WorkflowDefinition) -> Result<Self, Error> {
        let mut ordinals = HashMap::with_capacity(definition.tasks.len());
        for (ordinal, task) in (0..).zip(&definition.tasks) {
            ordinals.insert(task.id.clone(), ordinal);
        }
        let mut dependencies: Vec<Vec<Ordinal>> = Vec::with_capacity(definition.tasks.len());
        let mut dependents: Vec<Vec<Ordinal>> = vec![Vec::new(); definition.tasks.len()];
        for (ordinal, task) in (0..).zip(&definition.tasks) {
            let declared = task.dependencies.iter().map(String::as_str);
            let mut own: Vec<Ordinal> = declared
                .chain(task.rule.named_tasks())
                .filter_map(|id| ordinals.get(id).copied())
                .collect();
            own.sort_unstable();
            own.dedup();
            for dependency in &own {
                dependents[*dependency as usize].push(ordinal);
            }
            dependencies.push(own);
        }
        let (order, level) = topological_order(&dependencies, &dependents);
        if order.len() < dependencies.len() {
            return Err(cycle_error(definition, &dependencies, &order));
        }
        let mut places = vec![0; order.len()];
        for (place, task) in (0..).zip(&order) {
            places[*task as usize] = place;
        }
        Ok(Self {
            ordinals,
            dependencies,
            dependents,
            order,
            places,
            level,
            ancestors: OnceLock::new(),
        })
    }

    /// Returns the ordinal of the task with this short id.
    #[must_use]
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.ordinals.get(id).copied()
    }

    /// Returns the ordinals of the tasks on which a task depends.
    #[must_use]
    pub fn dependencies(&self, task: Ordinal) -> &[Ordinal] {
        &self.dependencies[task as usize]
    }

    /// Returns the ordinals of the tasks that depend on a task.
    #[must_use]
    pub fn dependents(&self, task: Ordinal) -> &[Ordinal] {
        &self.dependents[task as usize]
    }

    /// Returns the tasks in topological order. Where this leaves a choice, tasks are in declaration order.
    #[must_use]
    pub fn order(&self) -> &[Ordinal] {
        &self.order
    }

    /// Returns the length of the longest path from a root to the task.
    #[must_use]
    pub fn level(&self, task: Ordinal) -> u32 {
        self.level[task as usize]
    }

    /// Returns the tasks without dependencies, in declaration order.
    pub fn roots(&self) -> impl Iterator<Item = Ordinal> {
        (0..)
            .zip(&self.dependencies)
            .filter(|(_, own)| own.is_empty())
            .map(|(task, _)| task)
    }

    /// Returns the tasks on which no other task depends, in declaration order.
    pub fn leaves(&self) -> impl Iterator<Item = Ordinal> {
        (0..)
            .zip(&self.dependents)
            .filter(|(_, own)| own.is_empty())
            .map(|(task, _)| task)
    }

    /// Returns whether `task` depends on `ancestor`, directly or indirectly.
    #[must_use]
    pub fn is_ancestor(&self, ancestor: Ordinal, task: Ordinal) -> bool {
        let place = self.place(ancestor);
        self.ancestor_places(task)[place / 64] & (1 << (place % 64)) != 0
    }

    /// Returns the index of a task in the topological order.
    #[must_use]
    pub fn place(&self, task: Ordinal) -> usize {
        self.places[task as usize] as usize
    }

    /// Returns the places of a task's ancestors, as a bit set.
    #[must_use]
    pub fn ancestor_places(&self, task: Ordinal) -> &[u64] {
        &self.ancestor_bits()[task as usize]
    }

    /// Returns all ancestors of a task in topological order.
    #[must_use]
    pub fn ancestors(&self, task: Ordinal) -> Vec<Ordinal> {
        match self.dependencies(task) {
            [] => Vec::new(),
            // Bit sets are avoided for the most common wide graph, in which many tasks depend on one root.
            [only] if self.dependencies(*only).is_empty() => vec![*only],
            _ => self
                .order
                .iter()
                .copied()
                .filter(|other| self.is_ancestor(*other, task))
                .collect(),
        }
    }

    /// Returns a task and all tasks that depend on it, directly or indirectly, in topological order.
    #[must_use]
    pub fn with_descendants(&self, task: Ordinal) -> Vec<Ordinal> {
        let mut reached = vec![false; self.order.len()];
        reached[task as usize] = true;
        self.order
            .iter()
            .copied()
            .filter(|other| {
                let hit = reached[*other as usize]
                    || self
                        .dependencies(*other)
                        .iter()
                        .any(|dependency| reached[*dependency as usize]);
                reached[*other as usize] = hit;
                hit
            })
            .collect()
    }

    fn ancestor_bits(&self) -> &[Vec<u64>] {
        self.ancestors.get_or_init(|| {
            let words = self.order.len().div_ceil(64);
            let mut bits = vec![vec![0_u64; words]; self.order.len()];
            for task in &self.order {
                let mut own = vec![0_u64; words];
                for dependency in self.dependencies(*task) {
                    let place = self.place(*dependency);
                    own[place / 64] |= 1 << (place % 64);
                    for (mine, theirs) in own.iter_mut().zip(&bits[*dependency as usize]) {
                        *mine |= theirs;
                    }
                }
                bits[*task as usize] = own;
            }
            bits
        })
    }
}

/// Returns the tasks in topological order, and the level of each task. Leaves out tasks that are on a cycle or depend
/// on a cycle. Uses Kahn's algorithm, with a heap that keeps the declaration order where there is a choice.
fn topological_order(
    dependencies: &[Vec<Ordinal>],
    dependents: &[Vec<Ordinal>],
) -> (Vec<Ordinal>, Vec<u32>) {
    let mut open: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut level = vec![0; dependencies.len()];
    let mut free: BinaryHeap<Reverse<Ordinal>> = (0..)
        .zip(&open)
        .filter(|(_, count)| **count == 0)
        .map(|(task, _)| Reverse(task))
        .collect();
    let mut order = Vec::with_capacity(dependencies.len());
    while let Some(Reverse(task)) = free.pop() {
        order.push(task);
        for dependent in &dependents[task as usize] {
            let index = *dependent as usize;
            level[index] = level[index].max(level[task as usize] + 1);
            open[index] -= 1;
            if open[index] == 0 {
                free.push(Reverse(*dependent));
            }
        }
    }
    (order, level)
}

fn cycle_error(
    definition: &WorkflowDefinition,
    dependencies: &[Vec<Ordinal>],
    order: &[Ordinal],
) -> Error {
    let mut sorted = vec![false; dependencies.len()];
    for task in order {
        sorted[*task as usize] = true;
    }
    // Every task that was not sorted has a dependency that was not sorted. Following these dependencies leads to a cycle.
    let mut path: Vec<Ordinal> = Vec::new();
    let mut current = (0..)
        .zip(&sorted)
        .find(|(_, done)| !**done)
        .map_or(0, |(task, _)| task);
    while !path.contains(&current) {
        path.push(current);
        let next = dependencies[current as usize]
            .iter()
            .find(|task| !sorted[**task as usize]);
        current = next.copied().unwrap_or(current);
    }
    let start = path.iter().position(|task| *task == current).unwrap_or(0);
    let mut cycle: Vec<&str> = path[start..]
        .iter()
        .rev()
        .map(|task| definition.tasks[*task as usize].id.as_str())
        .collect();
    let smallest = cycle
        .iter()
        .enumerate()
        .min_by_key(|(_, id)| definition.tasks.iter().position(|task| task.id == **id))
        .map_or(0, |(index, _)| index);
    cycle.rotate_left(smallest);
    cycle.push(cycle[0]);
    Error::new(
        ErrorCode::WorkflowInvalid,
        format!(
            "workflow '{}' has a cycle: {}",
            definition.name,
            cycle.join(" -> ")
        ),
    )
    .with_hint("an arrow means 'must end before'; remove one of these dependencies")
}
