//! An ordered map whose old states stay readable: a B+tree with copy-on-write nodes.
//!
//! Owns: [`Map`], its nodes and the totals that they carry.
//! Takes: keys, values, questions in the form of a predicate that is true for a prefix of the keys.
//! Gives: values, ranks and weights in O(log n), ordered iteration that can skip what weighs nothing.
//! Always true: a clone never changes; keys ascend strictly; totals of a node are those of its entries;
//! the same operations give the same nodes.
//! Not here: what a key or a weight means.
//!
//! Cloning is O(1). A change copies the nodes on its path that a clone still shares and edits the
//! others in place, so a batch of changes between two clones copies each node at most once.

use std::cmp::Ordering;
use std::sync::Arc;

/// Entries of a leaf, children of an inner node.
const FANOUT: usize = 32;
/// Below this a node is merged with or fed from its neighbour.
const FILL_MIN: usize = FANOUT / 4;

/// What a value adds to the totals that nodes carry.
pub trait Weigh {
    /// The weight, 0 for maps that have no use for it.
    fn weight(&self) -> u64 {
        0
    }
}

/// Totals of a run of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of entries.
    pub entries: u64,
    /// Sum of their weights.
    pub weight: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.entries += other.entries;
        self.weight += other.weight;
    }

    fn subtract(&mut self, other: Totals) {
        self.entries -= other.entries;
        self.weight -= other.weight;
    }
}

/// What an insert adds to the totals above it. Summing the nodes anew would read all their neighbours, which are
/// mostly not in the cache.
#[derive(Clone, Copy)]
struct Change {
    entries: u64,
    weight_new: u64,
    weight_old: u64,
}

impl Change {
    fn of<V: Weigh>(weight_new: u64, replaced: Option<&V>) -> Change {
        let weight_old = replaced.map_or(0, Weigh::weight);
        Change { entries: u64::from(replaced.is_none()), weight_new, weight_old }
    }

    fn apply(self, totals: &mut Totals) {
        totals.entries += self.entries;
        totals.weight = totals.weight + self.weight_new - self.weight_old;
    }
}

/// The map; see the module.
#[derive(Clone, Debug)]
pub struct Map<K, V> {
    root: Arc<Node<K, V>>,
    totals: Totals,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<Child<K, V>>),
}

#[derive(Clone, Debug)]
struct Child<K, V> {
    /// The very first key of the subtree.
    first: K,
    totals: Totals,
    node: Arc<Node<K, V>>,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { root: Arc::new(Node::Leaf(Vec::new())), totals: Totals::default() }
    }
}

impl<K, V> Map<K, V> {
    /// Number of entries and their weight.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.totals.entries as usize
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.totals.entries == 0
    }

    /// The entry for which `compare(key)` is `Equal`; it must be `Less` before and `Greater` after.
    pub fn find(&self, compare: impl Fn(&K) -> Ordering) -> Option<(&K, &V)> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let after = children.partition_point(|c| compare(&c.first) != Ordering::Greater);
                    node = &children[after.checked_sub(1)?].node;
                }
                Node::Leaf(items) => {
                    let at = items.binary_search_by(|item| compare(&item.0)).ok()?;
                    return Some((&items[at].0, &items[at].1));
                }
            }
        }
    }

    /// The last entry of the prefix for which `before` is true.
    pub fn last_while(&self, before: impl Fn(&K) -> bool) -> Option<(&K, &V)> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let after = children.partition_point(|c| before(&c.first));
                    node = &children[after.checked_sub(1)?].node;
                }
                Node::Leaf(items) => {
                    let after = items.partition_point(|item| before(&item.0));
                    let (key, value) = items.get(after.checked_sub(1)?)?;
                    return Some((key, value));
                }
            }
        }
    }

    /// Totals of the prefix for which `before` is true.
    pub fn rank(&self, before: impl Fn(&K) -> bool) -> Totals
    where
        V: Weigh,
    {
        let mut totals = Totals::default();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let after = children.partition_point(|c| before(&c.first));
                    let Some(last) = after.checked_sub(1) else { return totals };
                    children[..last].iter().for_each(|c| totals.add(c.totals));
                    node = &children[last].node;
                }
                Node::Leaf(items) => {
                    let after = items.partition_point(|item| before(&item.0));
                    totals.add(sum_items(&items[..after]));
                    return totals;
                }
            }
        }
    }

    /// Entries in order, from the first for which `before` is false.
    pub fn iter_from(&self, before: impl Fn(&K) -> bool) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::with_capacity(8), leaf: &[], weighted: false };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let at = children.partition_point(|c| before(&c.first)).saturating_sub(1);
                    iter.path.push(&children[at + 1..]);
                    node = &children[at].node;
                }
                Node::Leaf(items) => {
                    iter.leaf = &items[items.partition_point(|item| before(&item.0))..];
                    return iter;
                }
            }
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.iter_from(|_| false)
    }
}

impl<K: Ord, V> Map<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(|k| k.cmp(key)).map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone + Weigh> Map<K, V> {
    /// Sets the value of `key`; returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let weight = value.weight();
        let (replaced, split) = insert(&mut self.root, key, value);
        Change::of(weight, replaced.as_ref()).apply(&mut self.totals);
        if let Some(right) = split {
            let mut left_totals = self.totals;
            left_totals.subtract(right.totals);
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            let first = first_key(&left).expect("a split leaves both halves filled").clone();
            let mut children = Vec::with_capacity(FANOUT + 1);
            children.push(Child { first, totals: left_totals, node: left });
            children.push(right);
            self.root = Arc::new(Node::Inner(children));
        }
        replaced
    }

    /// Removes `key`; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        // Looking first keeps a miss from copying nodes.
        self.get(key)?;
        let removed = remove(&mut self.root, key);
        if let Node::Inner(children) = &*self.root
            && children.len() == 1
        {
            let only = Arc::clone(&children[0].node);
            self.root = only;
        }
        self.totals = sum_node(&self.root);
        removed
    }
}

fn sum_items<K, V: Weigh>(items: &[(K, V)]) -> Totals {
    Totals { entries: items.len() as u64, weight: items.iter().map(|item| item.1.weight()).sum() }
}

fn sum_node<K, V: Weigh>(node: &Node<K, V>) -> Totals {
    match node {
        Node::Leaf(items) => sum_items(items),
        Node::Inner(children) => {
            let mut totals = Totals::default();
            children.iter().for_each(|c| totals.add(c.totals));
            totals
        }
    }
}

fn first_key<K, V>(node: &Node<K, V>) -> Option<&K> {
    match node {
        Node::Leaf(items) => items.first().map(|item| &item.0),
        Node::Inner(children) => children.first().map(|c| &c.first),
    }
}

fn node_len<K, V>(node: &Node<K, V>) -> usize {
    match node {
        Node::Leaf(items) => items.len(),
        Node::Inner(children) => children.len(),
    }
}

/// Where a node splits that grew at `at`: ascending inserts fill nodes to the brim.
fn split_point(len: usize, at: usize) -> usize {
    if at + 1 == len { len - FANOUT / 8 } else { len / 2 }
}

fn split_off<T>(items: &mut Vec<T>, at: usize) -> Vec<T> {
    let mut right = Vec::with_capacity(FANOUT + 1);
    right.extend(items.drain(at..));
    right
}

/// The node, to change: shared ones are copied first (with room to grow).
fn own<K: Clone, V: Clone>(node: &mut Arc<Node<K, V>>) -> &mut Node<K, V> {
    fn copy<T: Clone>(items: &[T]) -> Vec<T> {
        let mut copied = Vec::with_capacity(FANOUT + 1);
        copied.extend_from_slice(items);
        copied
    }
    if Arc::get_mut(node).is_none() {
        *node = Arc::new(match &**node {
            Node::Leaf(items) => Node::Leaf(copy(items)),
            Node::Inner(children) => Node::Inner(copy(children)),
        });
    }
    Arc::get_mut(node).expect("it is shared with nobody, or was just made")
}

/// Inserts below `node`; returns the replaced value and, if the node had to split, its right half.
fn insert<K: Ord + Clone, V: Clone + Weigh>(
    node: &mut Arc<Node<K, V>>,
    key: K,
    value: V,
) -> (Option<V>, Option<Child<K, V>>) {
    match own(node) {
        Node::Leaf(items) => {
            let at = match items.binary_search_by(|item| item.0.cmp(&key)) {
                Ok(at) => return (Some(std::mem::replace(&mut items[at].1, value)), None),
                Err(at) => at,
            };
            items.insert(at, (key, value));
            if items.len() <= FANOUT {
                return (None, None);
            }
            let right = split_off(items, split_point(items.len(), at));
            let (first, totals) = (right[0].0.clone(), sum_items(&right));
            (None, Some(Child { first, totals, node: Arc::new(Node::Leaf(right)) }))
        }
        Node::Inner(children) => {
            let at = children.partition_point(|c| c.first <= key).saturating_sub(1);
            if key < children[at].first {
                children[at].first = key.clone();
            }
            let weight = value.weight();
            let (replaced, split) = insert(&mut children[at].node, key, value);
            Change::of(weight, replaced.as_ref()).apply(&mut children[at].totals);
            let Some(split) = split else { return (replaced, None) };
            children[at].totals.subtract(split.totals);
            children.insert(at + 1, split);
            if children.len() <= FANOUT {
                return (replaced, None);
            }
            let right = split_off(children, split_point(children.len(), at + 1));
            let first = right[0].first.clone();
            let node = Node::Inner(right);
            (replaced, Some(Child { first, totals: sum_node(&node), node: Arc::new(node) }))
        }
    }
}

/// Removes a key that is below `node`.
fn remove<K: Ord + Clone, V: Clone + Weigh>(node: &mut Arc<Node<K, V>>, key: &K) -> Option<V> {
    match own(node) {
        Node::Leaf(items) => {
            let at = items.binary_search_by(|item| item.0.cmp(key)).ok()?;
            Some(items.remove(at).1)
        }
        Node::Inner(children) => {
            let at = children.partition_point(|c| c.first <= *key).checked_sub(1)?;
            let removed = remove(&mut children[at].node, key);
            refresh(&mut children[at]);
            if node_len(&children[at].node) < FILL_MIN && children.len() > 1 {
                refill(children, at);
            }
            removed
        }
    }
}

/// Sets a child's bound and totals from its node. The bound is the very first key, so that it keeps
/// no removed key alive and `last_while` may trust it.
fn refresh<K: Clone, V: Weigh>(child: &mut Child<K, V>) {
    child.totals = sum_node(&child.node);
    if let Some(first) = first_key(&child.node) {
        child.first = first.clone();
    }
}

/// Joins a thin child with a neighbour, or shares out evenly what is too much for one node.
fn refill<K: Clone, V: Clone + Weigh>(children: &mut Vec<Child<K, V>>, at: usize) {
    let left = if at + 1 < children.len() { at } else { at - 1 };
    let mut right = children.remove(left + 1);
    let target = &mut children[left];
    let rest = match (own(&mut target.node), own(&mut right.node)) {
        (Node::Leaf(a), Node::Leaf(b)) => join(a, b).map(Node::Leaf),
        (Node::Inner(a), Node::Inner(b)) => join(a, b).map(Node::Inner),
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("all leaves are equally deep")
        }
    };
    refresh(target);
    if let Some(rest) = rest {
        right.node = Arc::new(rest);
        refresh(&mut right);
        children.insert(left + 1, right);
    }
}

fn join<T>(left: &mut Vec<T>, right: &mut Vec<T>) -> Option<Vec<T>> {
    left.append(right);
    (left.len() > FANOUT).then(|| split_off(left, left.len() / 2))
}

/// Entries in order; see [`Map::iter_from`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    /// What is left of each inner node on the way down.
    path: Vec<&'a [Child<K, V>]>,
    leaf: &'a [(K, V)],
    weighted: bool,
}

impl<'a, K, V> Iter<'a, K, V> {
    /// From here on only entries that weigh something; subtrees that weigh nothing are not entered.
    pub fn weighted(mut self) -> Iter<'a, K, V> {
        self.weighted = true;
        self
    }

    /// Goes down to the next leaf; false at the end.
    fn descend(&mut self) -> bool {
        loop {
            let Some(rest) = self.path.last_mut() else { return false };
            let Some((child, others)) = rest.split_first() else {
                self.path.pop();
                continue;
            };
            *rest = others;
            if self.weighted && child.totals.weight == 0 {
                continue;
            }
            match &*child.node {
                Node::Inner(children) => self.path.push(children),
                Node::Leaf(items) => {
                    self.leaf = items;
                    return true;
                }
            }
        }
    }
}

impl<'a, K, V: Weigh> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            let Some(((key, value), rest)) = self.leaf.split_first() else {
                if self.descend() {
                    continue;
                }
                return None;
            };
            self.leaf = rest;
            if !self.weighted || value.weight() > 0 {
                return Some((key, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stdx::prng::Prng;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Mark(u64);

    impl Weigh for Mark {
        fn weight(&self) -> u64 {
            self.0
        }
    }

    /// Order, bounds, totals, equal depth.
    fn check_node(node: &Node<u64, Mark>, depth: usize, depths: &mut Vec<usize>) -> Totals {
        match node {
            Node::Leaf(items) => {
                depths.push(depth);
                assert!(items.len() <= FANOUT && items.windows(2).all(|w| w[0].0 < w[1].0));
                sum_items(items)
            }
            Node::Inner(children) => {
                assert!(children.len() <= FANOUT && children.len() > 1);
                let mut totals = Totals::default();
                for (at, child) in children.iter().enumerate() {
                    assert_eq!(first_key(&child.node), Some(&child.first));
                    assert!(children.get(at + 1).is_none_or(|next| child.first < next.first));
                    assert_eq!(check_node(&child.node, depth + 1, depths), child.totals);
                    totals.add(child.totals);
                }
                totals
            }
        }
    }

    fn check(map: &Map<u64, Mark>, model: &BTreeMap<u64, Mark>, prng: &mut Prng) {
        let mut depths = Vec::new();
        assert_eq!(check_node(&map.root, 0, &mut depths), map.totals());
        assert!(depths.iter().all(|d| *d == depths[0]));
        assert!(map.iter().eq(model.iter()));
        for _ in 0..5 {
            let at = prng.below(1_100);
            assert_eq!(map.get(&at), model.get(&at));
            let before = model.range(..at);
            let weight = before.clone().map(|(_, v)| v.0).sum();
            let totals = Totals { entries: before.clone().count() as u64, weight };
            assert_eq!(map.rank(|k| *k < at), totals);
            assert_eq!(map.last_while(|k| *k < at), before.clone().next_back());
            assert!(map.iter_from(|k| *k < at).eq(model.range(at..)));
            assert!(map.iter_from(|k| *k < at).weighted().eq(model.range(at..).filter(|i| i.1.0 > 0)));
        }
    }

    #[test]
    fn equals_an_ordinary_map_and_clones_never_change() {
        for seed in 0..12 {
            let mut prng = Prng::new(seed);
            let (mut map, mut model) = (Map::default(), BTreeMap::new());
            let mut held = Vec::new();
            for round in 0..60 {
                // Growing, shrinking and mixed phases, so that nodes split, join and share out.
                let removals = [1, 9, 5][round % 3];
                for _ in 0..prng.below(120) {
                    let key = prng.below(1_000);
                    if prng.below(10) < removals {
                        assert_eq!(map.remove(&key), model.remove(&key));
                    } else {
                        let value = Mark(prng.below(3));
                        assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                }
                check(&map, &model, &mut prng);
                held.push((map.clone(), model.clone()));
                if held.len() > 8 {
                    let (old, was) = held.swap_remove(prng.below(8) as usize);
                    check(&old, &was, &mut prng);
                }
            }
        }
    }

    #[test]
    fn ascending_keys_fill_their_nodes() {
        let mut map = Map::default();
        (0..10_000).for_each(|key| assert_eq!(map.insert(key, Mark(1)), None));
        let mut depths = Vec::new();
        check_node(&map.root, 0, &mut depths);
        assert!(depths.len() < 10_000 / (FANOUT * 3 / 4), "{} leaves", depths.len());
        (0..10_000).for_each(|key| assert_eq!(map.remove(&key), Some(Mark(1))));
        assert!(map.is_empty() && map.iter().next().is_none());
    }

    #[test]
    fn a_batch_copies_a_node_once() {
        let mut map = Map::default();
        (0..1_000_u64).for_each(|key| assert_eq!(map.insert(key * 2, Mark(1)), None));
        let held = map.clone();
        map.insert(501, Mark(1));
        let first = Arc::as_ptr(&map.root);
        assert_ne!(first, Arc::as_ptr(&held.root));
        map.insert(503, Mark(1));
        assert_eq!(first, Arc::as_ptr(&map.root));
    }
}
