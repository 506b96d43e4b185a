//! The layout of a graph of tasks in rows, as a pure function.
//!
//! A task is one row below the lowest of its dependencies. An edge that spans several rows gets a bend in each row between its
//! two tasks. Bends are ordered and placed like tasks, so that the edge does not cross tasks.
//!
//! Several sweeps sort each row by the median positions of its tasks' neighbours in the next row above or below. The order
//! with the fewest crossings is kept. Then each long row is broken into several rows, and each task is placed as close to its
//! neighbours above and below as possible, with at least one column between two tasks of a row. These positions are a
//! least-squares fit, computed by isotonic regression. Each sweep costs at most O((V + E) log V), where V is the total
//! number of tasks and bends, and E is the number of edges.

/// Width of a column, in units of horizontal positions.
pub const COLUMN: i32 = 100;

/// Maximum number of bends. If a graph needs more, its edges are straight.
const MAX_BENDS: usize = 60_000;
/// Number of sweeps that order the rows.
const ORDER_SWEEPS: usize = 8;
/// Number of sweeps that place the tasks horizontally.
const PLACE_SWEEPS: usize = 6;
/// A row with at most this many tasks and bends is never broken into several rows.
const SHORT_ROW: usize = 16;
/// The weight of an edge between two bends. All other edges have the weight 1.
const BEND_WEIGHT: f64 = 4.0;

/// The positions of the tasks, and the bends of the edges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The horizontal position of each task, in hundredths of a column.
    pub x: Vec<i32>,
    /// The row of each task.
    pub y: Vec<i32>,
    /// The edges, each as the index of the dependency and the index of the dependent.
    pub edges: Vec<[u32; 2]>,
    /// The bends of each edge, in order from the dependency. Each bend is two numbers: its horizontal position and its row.
    pub bends: Vec<Vec<i32>>,
    /// The largest horizontal position.
    pub width: i32,
    /// The number of rows.
    pub height: i32,
}

/// A task or a bend, with its neighbours in the rows above and below.
struct Node {
    row: usize,
    is_bend: bool,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out a graph of tasks without cycles.
///
/// `dependencies` contains the dependencies of each task. `order` contains all tasks; each task comes after its dependencies.
#[must_use]
pub fn layout(dependencies: &[Vec<u32>], order: &[u32]) -> Layout {
    let count = dependencies.len();
    let mut level = vec![0_usize; count];
    for task in order.iter().map(|task| *task as usize) {
        let lowest = dependencies[task]
            .iter()
            .map(|above| level[*above as usize] + 1);
        level[task] = lowest.max().unwrap_or(0);
    }
    let mut edges = Vec::new();
    for task in order {
        edges.extend(
            dependencies[*task as usize]
                .iter()
                .map(|above| [*above, *task]),
        );
    }
    let spans = edges
        .iter()
        .map(|[from, to]| level[*to as usize] - level[*from as usize] - 1);
    let has_bends = spans.sum::<usize>() <= MAX_BENDS;

    let mut nodes: Vec<Node> = level.iter().map(|row| Node::new(*row, false)).collect();
    let mut paths = Vec::with_capacity(edges.len());
    for [from, to] in &edges {
        let (from, to) = (*from as usize, *to as usize);
        let (mut last, mut path) = (from, Vec::new());
        if has_bends {
            for row in level[from] + 1..level[to] {
                let bend = nodes.len();
                nodes.push(Node::new(row, true));
                connect(&mut nodes, last, bend);
                path.push(bend);
                last = bend;
            }
        }
        connect(&mut nodes, last, to);
        paths.push(path);
    }

    let mut rows = vec![Vec::new(); level.iter().max().map_or(0, |last| last + 1)];
    let bends = count..nodes.len();
    for node in order.iter().map(|task| *task as usize).chain(bends) {
        rows[nodes[node].row].push(node);
    }
    sort_rows(&nodes, &mut rows);
    let mut row_of: Vec<usize> = nodes.iter().map(|node| node.row).collect();
    let rows = break_rows(rows, &mut row_of);
    let x = place_nodes(&nodes, &rows);
    finish(count, &x, &row_of, edges, paths, rows.len())
}

impl Node {
    const fn new(row: usize, is_bend: bool) -> Self {
        Self {
            row,
            is_bend,
            above: Vec::new(),
            below: Vec::new(),
        }
    }
}

fn connect(nodes: &mut [Node], above: usize, below: usize) {
    nodes[above].below.push(below);
    nodes[below].above.push(above);
}

/// Orders the tasks and bends inside each row by several sweeps, and keeps the order with the fewest crossings.
fn sort_rows(nodes: &[Node], rows: &mut Vec<Vec<usize>>) {
    let mut best = rows.clone();
    let mut fewest = crossings(nodes, rows);
    let mut place = vec![0.0; nodes.len()];
    for row in rows.iter() {
        center_row(row, &mut place);
    }
    for sweep in 0..ORDER_SWEEPS {
        if fewest == 0 {
            break;
        }
        let is_down = sweep % 2 == 0;
        for step in 0..rows.len() {
            let index = if is_down { step } else { rows.len() - 1 - step };
            let row = &mut rows[index];
            let mut keys: Vec<(f64, usize)> = Vec::with_capacity(row.len());
            for node in row.iter() {
                let beside = if is_down {
                    &nodes[*node].above
                } else {
                    &nodes[*node].below
                };
                let wanted = median(beside, &place).unwrap_or(place[*node]);
                keys.push((wanted, *node));
            }
            // This sort is stable, so nodes with equal medians keep their order.
            keys.sort_by(|left, right| left.0.total_cmp(&right.0));
            row.clear();
            row.extend(keys.into_iter().map(|(_, node)| node));
            center_row(row, &mut place);
        }
        let now = crossings(nodes, rows);
        if now < fewest {
            fewest = now;
            best.clone_from(rows);
        }
    }
    *rows = best;
}

#[expect(clippy::cast_precision_loss, reason = "rows are far shorter than 2^52")]
fn center_row(row: &[usize], place: &mut [f64]) {
    for (index, node) in row.iter().enumerate() {
        // Rows are centred, so that positions in rows of different lengths are comparable.
        place[*node] = index as f64 - (row.len() as f64 - 1.0) / 2.0;
    }
}

fn median(beside: &[usize], place: &[f64]) -> Option<f64> {
    let mut places: Vec<f64> = beside.iter().map(|node| place[*node]).collect();
    places.sort_by(f64::total_cmp);
    let middle = places.len() / 2;
    let upper = *places.get(middle)?;
    if places.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(places[middle - 1], upper))
}

/// Counts the crossings of edges between neighbouring rows.
fn crossings(nodes: &[Node], rows: &[Vec<usize>]) -> u64 {
    let mut index = vec![0; nodes.len()];
    for row in rows {
        for (place, node) in row.iter().enumerate() {
            index[*node] = place;
        }
    }
    let mut count = 0;
    for row in rows.windows(2) {
        let (upper, lower) = (&row[0], row[1].len());
        // A Fenwick tree that counts the lower ends of the edges visited so far.
        let (mut tree, mut seen) = (vec![0_u64; lower + 1], 0);
        for node in upper {
            let below = nodes[*node].below.iter();
            let mut ends: Vec<usize> = below
                .filter(|end| nodes[**end].row == nodes[*node].row + 1)
                .map(|end| index[*end])
                .collect();
            ends.sort_unstable();
            for end in &ends {
                let mut place = end + 1;
                let mut before = 0;
                while place > 0 {
                    before += tree[place];
                    place &= place - 1;
                }
                count += seen - before;
            }
            for end in ends {
                let mut place = end + 1;
                while place <= lower {
                    tree[place] += 1;
                    place += place & place.wrapping_neg();
                }
                seen += 1;
            }
        }
    }
    count
}

/// Breaks each long row into several rows. Returns all rows, and sets the new row of each node in `row_of`.
fn break_rows(rows: Vec<Vec<usize>>, row_of: &mut [usize]) -> Vec<Vec<usize>> {
    // The square root makes the picture about as wide as it is high, in columns and rows.
    let longest = row_of.len().isqrt().max(SHORT_ROW);
    let mut broken: Vec<Vec<usize>> = Vec::new();
    for row in rows {
        let parts = row.len().div_ceil(longest).max(1);
        let length = row.len().div_ceil(parts).max(1);
        for part in row.chunks(length) {
            for node in part {
                row_of[*node] = broken.len();
            }
            broken.push(part.to_vec());
        }
    }
    broken
}

/// Computes the horizontal position of each node, near the node's neighbours.
fn place_nodes(nodes: &[Node], rows: &[Vec<usize>]) -> Vec<f64> {
    let mut x = vec![0.0; nodes.len()];
    for row in rows {
        center_row(row, &mut x);
    }
    for sweep in 0..PLACE_SWEEPS {
        for step in 0..rows.len() {
            let is_down = sweep % 2 == 0;
            let row = &rows[if is_down { step } else { rows.len() - 1 - step }];
            let mut wanted = Vec::with_capacity(row.len());
            for node in row {
                let node = &nodes[*node];
                let last = sweep + 1 == PLACE_SWEEPS;
                // The last sweep uses the neighbours above and below, so that both count equally.
                let beside = match (is_down, last) {
                    (_, true) => node.above.iter().chain(&node.below).copied().collect(),
                    (true, false) => node.above.clone(),
                    (false, false) => node.below.clone(),
                };
                wanted.push(wanted_position(node, &beside, nodes, &x));
            }
            fit_row(row, &wanted, &mut x);
        }
    }
    x
}

/// Returns the weighted mean of the positions of some neighbours, and the weight of this mean. `None` without
/// neighbours.
fn wanted_position(node: &Node, beside: &[usize], nodes: &[Node], x: &[f64]) -> Option<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for other in beside {
        let pull = if node.is_bend && nodes[*other].is_bend {
            BEND_WEIGHT
        } else {
            1.0
        };
        sum += x[*other] * pull;
        weight += pull;
    }
    (weight > 0.0).then(|| (sum / weight, weight.min(16.0)))
}

/// Moves the nodes of a row as close to their wanted positions as possible, with at least one column between two nodes.
/// Applies the pool adjacent violators algorithm (isotonic regression) to each position minus the node's index.
#[expect(clippy::cast_precision_loss, reason = "rows are far shorter than 2^52")]
fn fit_row(row: &[usize], wanted: &[Option<(f64, f64)>], x: &mut [f64]) {
    // A pool consists of a mean, a weight, and a number of nodes.
    let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(row.len());
    for (index, node) in row.iter().enumerate() {
        // A node without neighbours on this side keeps its position, unless other nodes push it away.
        let (position, weight) = wanted[index].unwrap_or((x[*node], 0.05));
        let mut pool = (position - index as f64, weight, 1);
        while let Some(before) = pools.last().copied().filter(|before| before.0 > pool.0) {
            let weight = before.1 + pool.1;
            pool = (
                (before.0 * before.1 + pool.0 * pool.1) / weight,
                weight,
                before.2 + pool.2,
            );
            pools.pop();
        }
        pools.push(pool);
    }
    let means = pools
        .iter()
        .flat_map(|(mean, _, count)| std::iter::repeat_n(*mean, *count));
    for ((index, node), mean) in row.iter().enumerate().zip(means) {
        x[*node] = mean + index as f64;
    }
}

/// Converts the positions of the nodes to a layout. The leftmost node gets the horizontal position 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "positions do not exceed the number of nodes, which is bounded"
)]
fn finish(
    count: usize,
    x: &[f64],
    row_of: &[usize],
    edges: Vec<[u32; 2]>,
    paths: Vec<Vec<usize>>,
    height: usize,
) -> Layout {
    let left = x.iter().copied().fold(f64::INFINITY, f64::min);
    let place = |node: usize| ((x[node] - left) * f64::from(COLUMN)).round() as i32;
    let row = |node: usize| row_of[node] as i32;
    let bends = paths.into_iter().map(|path| {
        let places = path.into_iter().map(|bend| [place(bend), row(bend)]);
        places.flatten().collect()
    });
    Layout {
        x: (0..count).map(place).collect(),
        y: (0..count).map(row).collect(),
        bends: bends.collect(),
        edges,
        width: (0..x.len()).map(place).max().unwrap_or(0),
        height: height as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lays out tasks that are listed after their dependencies.
    fn of(dependencies: &[&[u32]]) -> Layout {
        let dependencies: Vec<Vec<u32>> = dependencies.iter().map(|task| task.to_vec()).collect();
        let order: Vec<u32> = (0..).take(dependencies.len()).collect();
        layout(&dependencies, &order)
    }

    #[test]
    fn graph_without_tasks_has_no_rows() {
        assert_eq!(of(&[]), Layout::default());
    }

    #[test]
    fn chain_is_a_straight_column() {
        let chain = of(&[&[], &[0], &[1], &[2]]);
        assert_eq!(chain.x, [0; 4]);
        assert_eq!(chain.y, [0, 1, 2, 3]);
        assert_eq!(chain.height, 4);
    }

    #[test]
    fn diamond_is_symmetric() {
        let diamond = of(&[&[], &[0], &[0], &[1, 2]]);
        assert_eq!(diamond.y, [0, 1, 1, 2]);
        assert_eq!(diamond.x[2] - diamond.x[1], COLUMN);
        assert_eq!(diamond.x[0] * 2, diamond.x[1] + diamond.x[2]);
        assert_eq!(diamond.x[0], diamond.x[3]);
    }

    #[test]
    fn edge_that_skips_a_row_passes_beside_the_task_there() {
        let skip = of(&[&[], &[0], &[0, 1]]);
        let long = skip.edges.iter().position(|edge| *edge == [0, 2]);
        let bend = &skip.bends[long.expect("the layout has the edge")];
        assert_eq!(bend.len(), 2);
        assert!((bend[0] - skip.x[1]).abs() >= COLUMN, "{skip:?}");
    }

    #[test]
    fn edges_are_uncrossed_by_reordering_a_row() {
        let pairs = of(&[&[], &[], &[1], &[0]]);
        assert_eq!(pairs.x[0] < pairs.x[1], pairs.x[3] < pairs.x[2]);
    }

    /// Returns a random graph for a seed. Each task depends on up to three earlier tasks.
    fn random(seed: u64, count: u32) -> Vec<Vec<u32>> {
        let mut state = seed;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            u32::try_from(state >> 33).unwrap_or(0)
        };
        let tasks = (0..count).map(|task| {
            let wanted = if task == 0 { 0 } else { next() % 4 };
            let mut above: Vec<u32> = (0..wanted).map(|_| next() % task).collect();
            above.sort_unstable();
            above.dedup();
            above
        });
        tasks.collect()
    }

    #[test]
    fn tasks_are_below_their_dependencies_and_do_not_overlap() {
        for seed in 0..60 {
            let graph = random(seed, 40);
            let order: Vec<u32> = (0..40).collect();
            let laid = layout(&graph, &order);
            for [from, to] in &laid.edges {
                assert!(laid.y[*from as usize] < laid.y[*to as usize]);
            }
            for left in 0..40 {
                for right in 0..left {
                    let apart = (laid.x[left] - laid.x[right]).abs();
                    assert!(
                        laid.y[left] != laid.y[right] || apart >= COLUMN - 1,
                        "{seed}"
                    );
                }
            }
            assert_eq!(
                laid,
                layout(&graph, &order),
                "the same graph has the same layout"
            );
        }
    }

    #[test]
    fn ten_thousand_tasks_are_laid_out_in_bounded_time() {
        let graph: Vec<Vec<u32>> = (0_u32..10_000)
            .map(|task| match task {
                0..100 => Vec::new(),
                task if task % 2 == 0 => vec![task - 100],
                task => vec![task - 100, task - 99],
            })
            .collect();
        let order: Vec<u32> = (0..10_000).collect();
        let began = std::time::Instant::now();
        let laid = layout(&graph, &order);
        assert_eq!(laid.x.len(), 10_000);
        // The limit allows for an unoptimised build on a busy machine. An optimised build takes a few hundredths of this time.
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }
}
