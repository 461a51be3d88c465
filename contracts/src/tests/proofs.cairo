use crate::tree::{MAX_DEPTH, is_included, node, root_of};
use crate::types::Proof;

fn siblings(count: u32) -> Span<felt252> {
    let mut siblings = array![];
    for n in 0..count {
        siblings.append(n.into());
    };
    siblings.span()
}

#[test]
fn a_single_leaf_is_its_own_root() {
    let proof = Proof { index: 0, siblings: [].span() };
    assert!(is_included('leaf', 'leaf', proof), "the leaf itself");
    assert!(!is_included('root', 'leaf', proof), "another root");
}

#[test]
fn each_bit_of_the_index_names_a_side() {
    let siblings = ['low', 'high'].span();
    let expected = node(node('leaf', 'low'), 'high');
    assert_eq!(root_of('leaf', Proof { index: 0, siblings }), Option::Some(expected));
    let expected = node(node('low', 'leaf'), 'high');
    assert_eq!(root_of('leaf', Proof { index: 1, siblings }), Option::Some(expected));
    let expected = node('high', node('leaf', 'low'));
    assert_eq!(root_of('leaf', Proof { index: 2, siblings }), Option::Some(expected));
    let expected = node('high', node('low', 'leaf'));
    assert_eq!(root_of('leaf', Proof { index: 3, siblings }), Option::Some(expected));
}

#[test]
fn an_index_at_two_to_the_depth_is_refused() {
    assert!(root_of('leaf', Proof { index: 1, siblings: [].span() }).is_none(), "depth 0");
    let siblings = ['low', 'high'].span();
    assert!(root_of('leaf', Proof { index: 4, siblings }).is_none(), "depth 2");
    // Its low bits alone would lead to the root.
    let root = node(node('leaf', 'low'), 'high');
    assert!(!is_included(root, 'leaf', Proof { index: 4, siblings }), "one place, one proof");
}

#[test]
fn the_deepest_proof_is_followed_to_its_last_index() {
    let siblings = siblings(MAX_DEPTH);
    assert!(root_of('leaf', Proof { index: 0xffffffff, siblings }).is_some(), "2^32 - 1");
    assert!(root_of('leaf', Proof { index: 0x100000000, siblings }).is_none(), "2^32");
}

#[test]
fn a_deeper_proof_is_refused() {
    let siblings = siblings(MAX_DEPTH + 1);
    assert!(root_of('leaf', Proof { index: 0, siblings }).is_none(), "33 levels");
}

#[test]
fn a_node_is_not_the_hash_of_two_leaves() {
    let as_leaf = core::poseidon::poseidon_hash_span([1, 2].span());
    assert!(node(1, 2) != as_leaf, "capacities tell nodes from leaves");
    assert!(node(1, 2) != node(2, 1), "sides matter");
}
