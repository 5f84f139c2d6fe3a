//! Makes a lowered graph the one a person would have written: constants computed, BatchNorm inside
//! the convolution before it, one operator where burn recorded several.

mod constants;
mod fold;
mod patterns;

use super::graph::Graph;

/// Rewrites a graph in place until nothing changes. The function it computes stays the same, up to
/// the rounding of folded weights.
pub(super) fn simplify(graph: &mut Graph) {
    loop {
        let changed = constants::fold(graph)
            | patterns::bypass(graph)
            | patterns::global_average(graph)
            | patterns::rectify(graph)
            | patterns::gemm(graph)
            | fold::batch_norms(graph);
        graph.prune();
        if !changed {
            break;
        }
    }
    patterns::flatten(graph);
    graph.prune();
}
