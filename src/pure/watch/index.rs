//! Which watchers care about a key.
//!
//! Owns: the watched keys and intervals, each once, and who holds them.
//! Takes: an interval and a watcher's number (its slot, given by the caller); a key.
//! Gives: the watchers of a key, by class.
//! Always true: a watcher is in exactly one node; the watchers of a node lie sorted by class, so that a
//! flow never looks at another flow's watchers; the greatest end of each subtree is known.
//! Not here: what a watcher wants of an event, or when.
//!
//! Exact keys are found by hash. Prefixes too, one probe for each length in use (bounded): the number of
//! prefixes then costs nothing but cache misses. Every other interval is in a treap ordered by start
//! that knows the greatest end of each subtree.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::pages::Pages;
use crate::limits::watch::{HASHED_LENGTHS_MAX, HASHED_PREFIX_BYTES_MAX};
use crate::stdx::prng::Prng;

/// Who serves a watcher. The order is that of the watchers within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The flow at the head.
    Flow = 0,
    /// The sweep that starts close to the head.
    Near = 1,
    /// The sweep that starts far behind.
    Far = 2,
    /// Nobody at the moment.
    Resting = 3,
}

const CLASSES: [Class; 4] = [Class::Flow, Class::Near, Class::Far, Class::Resting];

/// An interval of keys to watch, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval<'a> {
    /// Just this key.
    Point(&'a [u8]),
    /// `start..end`, with `start < end`.
    Between(&'a [u8], &'a [u8]),
    /// `start..`, to the last key.
    From(&'a [u8]),
}

impl Interval<'_> {
    /// True if the interval holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Interval::Point(point) => key == point,
            Interval::Between(start, end) => start <= key && key < end,
            Interval::From(start) => start <= key,
        }
    }
}

/// The watched intervals.
pub struct Index {
    nodes: Pages<Node>,
    /// By node; only as long as nodes of the treap need.
    links: Vec<Links>,
    free: Vec<u32>,
    /// Nodes of kinds `Point` and `Prefix`.
    hashed: HashTable<u32>,
    /// Lengths of the hashed prefixes, ascending, with the number of their nodes.
    lengths: Vec<(usize, u32)>,
    /// Root of the treap of the other nodes.
    root: u32,
    /// Where each watcher is, by its number.
    places: Vec<Place>,
    hasher: FixedState,
    priorities: Prng,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    node: u32,
    position: u32,
}

/// How a node is found, and what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By hash; the key.
    Point,
    /// By hash; the prefix (its end follows from it).
    Prefix,
    /// In the treap; start, then end.
    Between,
    /// In the treap; start.
    From,
}

/// A watched interval: one cache line, since with many of them each lookup misses the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Node {
    bytes: NodeBytes,
    start_len: u32,
    kind: Kind,
    holders: Holders,
}

const _: () = assert!(size_of::<Node>() == 64);

/// Start and end of a node, in its own line if they are short.
#[derive(Debug)]
enum NodeBytes {
    Inline(u8, [u8; INLINE_BYTES]),
    Heap(Box<[u8]>),
}

/// What fills a node up to its line.
const INLINE_BYTES: usize = 38;

/// Where a node is in the treap.
#[derive(Clone, Copy, Debug)]
struct Links {
    left: u32,
    right: u32,
    /// The node of this subtree whose end is greatest.
    greatest: u32,
    priority: u32,
}

/// The watchers of a node. Most nodes have one.
#[derive(Debug)]
enum Holders {
    None,
    One(u32, Class),
    Many(Box<Many>),
}

/// Watchers sorted by class: class c ends at `bounds[c]`, the last one at the end.
#[derive(Debug, Default)]
struct Many {
    watchers: Vec<u32>,
    bounds: [u32; 3],
}

const NIL: u32 = u32::MAX;

impl Index {
    /// An empty index. The seed keys the private hash and the shape of the treap, never a result's set.
    pub fn new(seed: u64) -> Index {
        Index {
            nodes: Pages::default(),
            links: Vec::new(),
            free: Vec::new(),
            hashed: HashTable::new(),
            lengths: Vec::new(),
            root: NIL,
            places: Vec::new(),
            hasher: FixedState::with_seed(seed),
            priorities: Prng::new(seed),
        }
    }

    /// Adds a watcher, resting. Its number must be free; small numbers are reused.
    pub fn insert(&mut self, watcher: u32, interval: Interval<'_>) {
        let node = match self.find(interval) {
            Some(node) => node,
            None => self.insert_node(interval),
        };
        let slot = watcher as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, Place { node: NIL, position: 0 });
        }
        assert_eq!(self.places[slot].node, NIL, "a watcher is in one node");
        let holders = &mut self.nodes[node].holders;
        let position = match holders {
            Holders::None => {
                *holders = Holders::One(watcher, Class::Resting);
                0
            }
            Holders::One(first, class) => {
                let mut many = Many { watchers: vec![*first, watcher], bounds: [0; 3] };
                for bound in *class as usize..3 {
                    many.bounds[bound] = 1;
                }
                *holders = Holders::Many(Box::new(many));
                1
            }
            Holders::Many(many) => {
                many.watchers.push(watcher);
                many.watchers.len() as u32 - 1
            }
        };
        self.places[slot] = Place { node, position };
    }

    /// Takes a watcher out.
    pub fn remove(&mut self, watcher: u32) {
        self.set_class(watcher, Class::Resting);
        let Place { node, position } = self.places[watcher as usize];
        self.places[watcher as usize].node = NIL;
        let holders = &mut self.nodes[node].holders;
        match holders {
            Holders::None => unreachable!("the watcher's place names its node"),
            Holders::One(..) => {
                *holders = Holders::None;
                self.remove_node(node);
            }
            Holders::Many(many) => {
                // The last class has no bound to move, so the last watcher may take the place.
                many.watchers.swap_remove(position as usize);
                if let Some(moved) = many.watchers.get(position as usize) {
                    self.places[*moved as usize].position = position;
                }
                if let [only] = many.watchers[..] {
                    let class = many.class_at(0);
                    self.places[only as usize].position = 0;
                    *holders = Holders::One(only, class);
                }
            }
        }
    }

    /// Hands a watcher to another flow.
    pub fn set_class(&mut self, watcher: u32, class: Class) {
        let Place { node, position } = self.places[watcher as usize];
        match &mut self.nodes[node].holders {
            Holders::None => unreachable!("the watcher's place names its node"),
            Holders::One(_, current) => *current = class,
            Holders::Many(many) => {
                let places = &mut self.places;
                many.shift(position, class, |moved, position| places[moved as usize].position = position);
            }
        }
    }

    /// The class of a watcher.
    pub fn class(&self, watcher: u32) -> Class {
        let Place { node, position } = self.places[watcher as usize];
        match &self.nodes[node].holders {
            Holders::None => unreachable!("the watcher's place names its node"),
            Holders::One(_, class) => *class,
            Holders::Many(many) => many.class_at(position),
        }
    }

    /// Appends the watchers of `class` whose interval holds `key`, each once, in an order that follows
    /// from the history of calls alone.
    pub fn collect(&self, key: &[u8], class: Class, into: &mut Vec<u32>) {
        if let Some(node) = self.find_hashed(Kind::Point, key) {
            self.nodes[node].holders.collect(class, into);
        }
        for &(length, _) in &self.lengths {
            let Some(prefix) = key.get(..length) else { break };
            if let Some(node) = self.find_hashed(Kind::Prefix, prefix) {
                self.nodes[node].holders.collect(class, into);
            }
        }
        self.collect_below(self.root, key, class, into);
    }

    /// Appends one watcher for each node that a lookup of the keys will probably visit by hash. Looking them
    /// up together lets the processor wait for many of them at once: with many intervals each lookup
    /// waits for memory, one line after the other.
    pub fn foresee<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, into: &mut Vec<u32>) {
        let first = into.len();
        for key in keys {
            into.extend(self.hashed.find(self.hash(Kind::Point, key), |_| true));
            for &(length, _) in &self.lengths {
                let Some(prefix) = key.get(..length) else { break };
                into.extend(self.hashed.find(self.hash(Kind::Prefix, prefix), |_| true));
            }
        }
        for slot in &mut into[first..] {
            *slot = match &self.nodes[*slot].holders {
                Holders::One(watcher, _) => *watcher,
                Holders::Many(many) => many.watchers[0],
                Holders::None => unreachable!("a hashed node is held"),
            };
        }
    }

    /// Number of distinct intervals watched.
    pub fn intervals(&self) -> usize {
        self.nodes.len() as usize - self.free.len()
    }

    fn collect_below(&self, at: u32, key: &[u8], class: Class, into: &mut Vec<u32>) {
        let Some(node) = self.nodes.get(at) else { return };
        let links = self.links[at as usize];
        if !self.nodes[links.greatest].ends_after(key) {
            return;
        }
        self.collect_below(links.left, key, class, into);
        if node.start() <= key {
            if node.ends_after(key) {
                node.holders.collect(class, into);
            }
            self.collect_below(links.right, key, class, into);
        }
    }

    fn find(&self, interval: Interval<'_>) -> Option<u32> {
        match interval {
            Interval::Point(key) => self.find_hashed(Kind::Point, key),
            Interval::Between(start, end) if is_prefix(start, end) => {
                // A prefix that came when all lengths were taken stays in the treap.
                self.find_hashed(Kind::Prefix, start).or_else(|| self.find_in_tree(interval))
            }
            Interval::Between(..) | Interval::From(_) => self.find_in_tree(interval),
        }
    }

    fn hash(&self, kind: Kind, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(kind as u8);
        hasher.write(bytes);
        hasher.finish()
    }

    fn find_hashed(&self, kind: Kind, bytes: &[u8]) -> Option<u32> {
        if self.hashed.is_empty() {
            return None;
        }
        let equal = |&node: &u32| {
            let node = &self.nodes[node];
            node.kind == kind && node.bytes.as_slice() == bytes
        };
        self.hashed.find(self.hash(kind, bytes), equal).copied()
    }

    fn find_in_tree(&self, interval: Interval<'_>) -> Option<u32> {
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at) {
            at = match compare(interval, node.interval()) {
                Ordering::Less => self.links[at as usize].left,
                Ordering::Greater => self.links[at as usize].right,
                Ordering::Equal => return Some(at),
            };
        }
        None
    }

    /// Counts a prefix of this length as hashed, if there is room for the length.
    fn take_length(&mut self, length: usize) -> bool {
        match self.lengths.binary_search_by_key(&length, |&(length, _)| length) {
            Ok(at) => {
                self.lengths[at].1 += 1;
                true
            }
            Err(at) if self.lengths.len() < HASHED_LENGTHS_MAX && length <= HASHED_PREFIX_BYTES_MAX => {
                self.lengths.insert(at, (length, 1));
                true
            }
            Err(_) => false,
        }
    }

    fn insert_node(&mut self, interval: Interval<'_>) -> u32 {
        let (kind, start, end) = match interval {
            Interval::Point(key) => (Kind::Point, key, &b""[..]),
            Interval::Between(start, end) if is_prefix(start, end) && self.take_length(start.len()) => {
                (Kind::Prefix, start, &b""[..])
            }
            Interval::Between(start, end) => (Kind::Between, start, end),
            Interval::From(start) => (Kind::From, start, &b""[..]),
        };
        let node = Node {
            bytes: NodeBytes::new(start, end),
            start_len: u32::try_from(start.len()).expect("a key is smaller than a request"),
            kind,
            holders: Holders::None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => self.nodes.push(node),
        };
        match kind {
            Kind::Point | Kind::Prefix => {
                let hash = self.hash(kind, start);
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.hashed.insert_unique(hash, at, |&other| {
                    let node = &nodes[other];
                    let mut hasher = hasher.build_hasher();
                    hasher.write_u8(node.kind as u8);
                    hasher.write(node.bytes.as_slice());
                    hasher.finish()
                });
            }
            Kind::Between | Kind::From => {
                let priority = (self.priorities.next_u64() >> 32) as u32;
                let links = Links { left: NIL, right: NIL, greatest: at, priority };
                if self.links.len() <= at as usize {
                    self.links.resize(at as usize + 1, links);
                }
                self.links[at as usize] = links;
                self.root = self.tree_insert(self.root, at);
            }
        }
        at
    }

    fn remove_node(&mut self, at: u32) {
        let node = &self.nodes[at];
        match node.kind {
            Kind::Point | Kind::Prefix => {
                let bytes = node.bytes.as_slice();
                let (kind, length, hash) = (node.kind, bytes.len(), self.hash(node.kind, bytes));
                match self.hashed.find_entry(hash, |&other| other == at) {
                    Ok(entry) => drop(entry.remove()),
                    Err(_) => unreachable!("a hashed node is in the table"),
                }
                if kind == Kind::Prefix {
                    let of_length = self.lengths.iter().position(|&(other, _)| other == length);
                    let slot = of_length.expect("the length of a hashed prefix is counted");
                    self.lengths[slot].1 -= 1;
                    if self.lengths[slot].1 == 0 {
                        self.lengths.remove(slot);
                    }
                }
            }
            Kind::Between | Kind::From => self.root = self.tree_remove(self.root, at),
        }
        self.nodes[at].bytes = NodeBytes::new(b"", b"");
        self.free.push(at);
    }

    /// Puts `new` below `at`; returns the subtree's root. Depth is logarithmic by the random priorities.
    fn tree_insert(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            self.pull(new);
            return new;
        }
        let slot = at as usize;
        if compare(self.nodes[new].interval(), self.nodes[at].interval()) == Ordering::Less {
            let left = self.tree_insert(self.links[slot].left, new);
            self.links[slot].left = left;
            if self.links[left as usize].priority > self.links[slot].priority {
                self.links[slot].left = self.links[left as usize].right;
                self.links[left as usize].right = at;
                self.pull(at);
                self.pull(left);
                return left;
            }
        } else {
            let right = self.tree_insert(self.links[slot].right, new);
            self.links[slot].right = right;
            if self.links[right as usize].priority > self.links[slot].priority {
                self.links[slot].right = self.links[right as usize].left;
                self.links[right as usize].left = at;
                self.pull(at);
                self.pull(right);
                return right;
            }
        }
        self.pull(at);
        at
    }

    fn tree_remove(&mut self, at: u32, gone: u32) -> u32 {
        assert_ne!(at, NIL, "a node of the tree is found from its root");
        let slot = at as usize;
        if at == gone {
            return self.tree_merge(self.links[slot].left, self.links[slot].right);
        }
        if compare(self.nodes[gone].interval(), self.nodes[at].interval()) == Ordering::Less {
            self.links[slot].left = self.tree_remove(self.links[slot].left, gone);
        } else {
            self.links[slot].right = self.tree_remove(self.links[slot].right, gone);
        }
        self.pull(at);
        at
    }

    fn tree_merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.links[left as usize].priority > self.links[right as usize].priority {
            let merged = self.tree_merge(self.links[left as usize].right, right);
            self.links[left as usize].right = merged;
            self.pull(left);
            left
        } else {
            let merged = self.tree_merge(left, self.links[right as usize].left);
            self.links[right as usize].left = merged;
            self.pull(right);
            right
        }
    }

    /// Recomputes the greatest end of a subtree from its children's.
    fn pull(&mut self, at: u32) {
        let mut greatest = at;
        for child in [self.links[at as usize].left, self.links[at as usize].right] {
            let Some(links) = self.links.get(child as usize) else { continue };
            if self.nodes[links.greatest].ends_beyond(&self.nodes[greatest]) {
                greatest = links.greatest;
            }
        }
        self.links[at as usize].greatest = greatest;
    }

    /// Checks every fact of the header, in time that grows with the index.
    #[cfg(test)]
    pub fn verify(&self) {
        let mut watchers = 0;
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let mut holders = Vec::new();
            for class in CLASSES {
                let before = holders.len();
                node.holders.collect(class, &mut holders);
                for &watcher in &holders[before..] {
                    assert_eq!(self.class(watcher), class);
                    assert_eq!(self.places[watcher as usize].node, at);
                }
            }
            assert_eq!(holders.is_empty(), self.free.contains(&at));
            watchers += holders.len();
        }
        assert_eq!(watchers, self.places.iter().filter(|place| place.node != NIL).count());
        let hashed: u32 = self.lengths.iter().map(|&(_, count)| count).sum();
        let prefixes = self.hashed.iter().filter(|&&node| self.nodes[node].kind == Kind::Prefix);
        assert_eq!(hashed as usize, prefixes.count());
        assert_eq!(self.verify_below(self.root) + self.hashed.len(), self.intervals());
    }

    #[cfg(test)]
    fn verify_below(&self, at: u32) -> usize {
        let Some(node) = self.nodes.get(at) else { return 0 };
        let links = self.links[at as usize];
        for child in [links.left, links.right] {
            let Some(below) = self.nodes.get(child) else { continue };
            let of_child = self.links[child as usize];
            assert!(of_child.priority <= links.priority);
            assert_eq!(compare(below.interval(), node.interval()) == Ordering::Less, child == links.left);
            let (mine, childs) = (&self.nodes[links.greatest], &self.nodes[of_child.greatest]);
            assert!(!childs.ends_beyond(mine) && !node.ends_beyond(mine));
        }
        1 + self.verify_below(links.left) + self.verify_below(links.right)
    }
}

impl Node {
    fn start(&self) -> &[u8] {
        &self.bytes.as_slice()[..self.start_len as usize]
    }

    fn end(&self) -> &[u8] {
        &self.bytes.as_slice()[self.start_len as usize..]
    }

    /// Only of nodes in the treap.
    fn ends_after(&self, key: &[u8]) -> bool {
        self.kind == Kind::From || key < self.end()
    }

    /// Only of nodes in the treap.
    fn ends_beyond(&self, other: &Node) -> bool {
        match (self.kind, other.kind) {
            (_, Kind::From) => false,
            (Kind::From, _) => true,
            _ => self.end() > other.end(),
        }
    }

    /// Only of nodes in the treap.
    fn interval(&self) -> Interval<'_> {
        match self.kind {
            Kind::Between => Interval::Between(self.start(), self.end()),
            Kind::From => Interval::From(self.start()),
            Kind::Point | Kind::Prefix => unreachable!("hashed nodes are not in the treap"),
        }
    }
}

impl NodeBytes {
    fn new(start: &[u8], end: &[u8]) -> NodeBytes {
        let length = start.len() + end.len();
        if length > INLINE_BYTES {
            return NodeBytes::Heap([start, end].concat().into_boxed_slice());
        }
        let mut bytes = [0; INLINE_BYTES];
        bytes[..start.len()].copy_from_slice(start);
        bytes[start.len()..length].copy_from_slice(end);
        NodeBytes::Inline(length as u8, bytes)
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            NodeBytes::Inline(length, bytes) => &bytes[..usize::from(*length)],
            NodeBytes::Heap(bytes) => bytes,
        }
    }
}

impl Holders {
    fn collect(&self, class: Class, into: &mut Vec<u32>) {
        match self {
            Holders::None => {}
            Holders::One(watcher, current) => {
                if *current == class {
                    into.push(*watcher);
                }
            }
            Holders::Many(many) => {
                let class = class as usize;
                let first = if class == 0 { 0 } else { many.bounds[class - 1] as usize };
                let end = many.bounds.get(class).map_or(many.watchers.len(), |&bound| bound as usize);
                into.extend_from_slice(&many.watchers[first..end]);
            }
        }
    }
}

impl Many {
    fn class_at(&self, position: u32) -> Class {
        CLASSES[self.bounds.iter().filter(|&&bound| bound <= position).count()]
    }

    /// Moves the watcher at `position` to `class` by one swap for each border on the way.
    fn shift(&mut self, mut position: u32, class: Class, mut placed: impl FnMut(u32, u32)) {
        let mut swap = |watchers: &mut Vec<u32>, from: u32, to: u32| {
            watchers.swap(from as usize, to as usize);
            placed(watchers[from as usize], from);
            placed(watchers[to as usize], to);
            to
        };
        let (source, target) = (self.class_at(position) as usize, class as usize);
        for border in source..target {
            self.bounds[border] -= 1;
            position = swap(&mut self.watchers, position, self.bounds[border]);
        }
        for border in (target..source).rev() {
            position = swap(&mut self.watchers, position, self.bounds[border]);
            self.bounds[border] += 1;
        }
    }
}

/// The order of the treap: by start, then by end.
fn compare(a: Interval<'_>, b: Interval<'_>) -> Ordering {
    fn parts<'a>(interval: Interval<'a>) -> (&'a [u8], bool, &'a [u8]) {
        match interval {
            Interval::Point(_) => unreachable!("points are not in the treap"),
            Interval::Between(start, end) => (start, false, end),
            Interval::From(start) => (start, true, b""),
        }
    }
    parts(a).cmp(&parts(b))
}

/// True if `start..end` is the set of keys that begin with `start`.
fn is_prefix(start: &[u8], end: &[u8]) -> bool {
    let Some(last) = start.iter().rposition(|&byte| byte != 0xff) else { return false };
    end.len() == last + 1 && end[..last] == start[..last] && end[last] == start[last] + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prng: &mut Prng) -> Vec<u8> {
        let bytes = [0, b'a', b'b', 0xff];
        (0..1 + prng.below(4)).map(|_| bytes[prng.below(4) as usize]).collect()
    }

    #[derive(Clone)]
    enum Owned {
        Point(Vec<u8>),
        Between(Vec<u8>, Vec<u8>),
        From(Vec<u8>),
    }

    impl Owned {
        fn interval(&self) -> Interval<'_> {
            match self {
                Owned::Point(key) => Interval::Point(key),
                Owned::Between(start, end) => Interval::Between(start, end),
                Owned::From(start) => Interval::From(start),
            }
        }
    }

    fn interval(prng: &mut Prng) -> Owned {
        let start = key(prng);
        match prng.below(4) {
            0 => Owned::Point(start),
            1 => {
                let mut end = start.clone();
                while end.last() == Some(&0xff) {
                    end.pop();
                }
                match end.last_mut() {
                    None => Owned::From(start),
                    Some(last) => {
                        *last += 1;
                        Owned::Between(start, end)
                    }
                }
            }
            2 => {
                let end = key(prng);
                if start < end { Owned::Between(start, end) } else { Owned::From(start) }
            }
            _ => Owned::From(start),
        }
    }

    /// Random inserts, removes and changes of class against a list of all watchers.
    #[test]
    fn agrees_with_brute_force() {
        for seed in 0..60 {
            let mut prng = Prng::new(seed);
            let mut index = Index::new(seed);
            let mut model: Vec<Option<(Owned, Class)>> = vec![None; 40];
            for _ in 0..400 {
                let watcher = prng.below(40) as usize;
                let class = CLASSES[prng.below(4) as usize];
                match &mut model[watcher] {
                    None => {
                        let interval = interval(&mut prng);
                        index.insert(watcher as u32, interval.interval());
                        index.set_class(watcher as u32, class);
                        model[watcher] = Some((interval, class));
                    }
                    Some(_) if prng.chance(1, 2) => {
                        index.remove(watcher as u32);
                        model[watcher] = None;
                    }
                    Some((_, current)) => {
                        index.set_class(watcher as u32, class);
                        *current = class;
                    }
                }
                let key = key(&mut prng);
                let class = CLASSES[prng.below(4) as usize];
                let mut found = Vec::new();
                index.collect(&key, class, &mut found);
                found.sort_unstable();
                let wanted: Vec<u32> = (0..40)
                    .filter(|&watcher| {
                        model[watcher as usize]
                            .as_ref()
                            .is_some_and(|(interval, of)| *of == class && interval.interval().contains(&key))
                    })
                    .collect();
                assert_eq!(found, wanted, "seed {seed}, key {key:?}");
            }
            index.verify();
        }
    }

    /// More prefix lengths than are hashed: the rest is found in the treap, and all can go again.
    #[test]
    fn prefixes_of_many_lengths_are_all_found() {
        let mut index = Index::new(1);
        let key = vec![b'k'; 600];
        for length in 1..=600 {
            let mut end = key[..length].to_vec();
            *end.last_mut().expect("not empty") += 1;
            index.insert(length as u32, Interval::Between(&key[..length], &end));
        }
        index.verify();
        assert_eq!(index.lengths.len(), HASHED_LENGTHS_MAX);
        let mut found = Vec::new();
        index.collect(&key, Class::Resting, &mut found);
        found.sort_unstable();
        assert_eq!(found, (1..=600).collect::<Vec<u32>>());
        for length in 1..=600 {
            index.remove(length);
        }
        index.verify();
        assert_eq!(index.intervals(), 0);
    }

    #[test]
    fn a_prefix_is_told_from_other_ranges() {
        assert!(is_prefix(b"a", b"b"));
        assert!(is_prefix(b"a\xff", b"b"));
        assert!(is_prefix(b"\0", b"\x01"));
        assert!(!is_prefix(b"a", b"c"));
        assert!(!is_prefix(b"a", b"b\0"));
        assert!(!is_prefix(b"\xff", b"\xff\xff"));
    }
}
