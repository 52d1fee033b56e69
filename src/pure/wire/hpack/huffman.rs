//! The Huffman code of RFC 7541, section 5.2, decoded by a machine that eats four bits at a time.
//!
//! A state is an inner node of the code's tree. No code is shorter than five bits, so four bits complete
//! at most one symbol.

use super::tables::CODE_BITS;

/// Symbols: 256 octets and EOS.
const SYMBOLS: usize = CODE_BITS.len();
const EOS: u16 = 256;
/// Inner nodes of a full binary tree with `SYMBOLS` leaves.
const STATES: usize = SYMBOLS - 1;
/// Marks a leaf in the tree while it is built.
const LEAF: u16 = 0x8000;

/// What four bits do in a state.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    /// `EMIT`, `ACCEPT`, `FAIL` in any sensible mix.
    flags: u8,
    symbol: u8,
}

/// The step completes `symbol`.
const EMIT: u8 = 1;
/// A string may end after this step: what is left is at most 7 bits of ones (section 5.2).
const ACCEPT: u8 = 2;
/// EOS was completed, which is an error inside a string.
const FAIL: u8 = 4;

static STEPS: [[Step; 16]; STATES] = build_steps();

/// The string held bits that are no code, EOS, or padding other than up to 7 ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadHuffman;

/// Appends the decoded form of `source` to `target`, at most `bytes_max` bytes of it; true when it fitted.
pub(super) fn decode(source: &[u8], target: &mut Vec<u8>, bytes_max: usize) -> Result<bool, BadHuffman> {
    let (mut state, mut accept) = (0_u8, true);
    let end = target.len().saturating_add(bytes_max);
    for octet in source {
        for nibble in [octet >> 4, octet & 15] {
            let step = STEPS[usize::from(state)][usize::from(nibble)];
            if step.flags & FAIL != 0 {
                return Err(BadHuffman);
            }
            if step.flags & EMIT != 0 {
                if target.len() >= end {
                    return Ok(false);
                }
                target.push(step.symbol);
            }
            state = step.next;
            accept = step.flags & ACCEPT != 0;
        }
    }
    if accept { Ok(true) } else { Err(BadHuffman) }
}

/// Codes from their lengths: shortest first, then by symbol.
const fn build_codes() -> [u32; SYMBOLS] {
    let mut codes = [0; SYMBOLS];
    let mut code = 0_u32;
    let mut bits = 1;
    while bits <= 30 {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_BITS[symbol] == bits {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    codes
}

/// The tree: for each inner node its two children, inner nodes by number, leaves marked by `LEAF`.
const fn build_tree() -> [[u16; 2]; STATES] {
    let codes = build_codes();
    let mut tree = [[0_u16; 2]; STATES];
    let mut nodes = 1_u16;
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let mut node = 0_usize;
        let mut bit = CODE_BITS[symbol];
        while bit > 1 {
            bit -= 1;
            let side = ((codes[symbol] >> bit) & 1) as usize;
            if tree[node][side] == 0 {
                tree[node][side] = nodes;
                nodes += 1;
            }
            node = tree[node][side] as usize;
        }
        tree[node][(codes[symbol] & 1) as usize] = LEAF | symbol as u16;
        symbol += 1;
    }
    assert!(nodes as usize == STATES, "the code's lengths don't form a full tree");
    tree
}

/// Which nodes lie on the path of ones from the root, at most 7 deep: where padding may end.
const fn build_accepting(tree: &[[u16; 2]; STATES]) -> [bool; STATES] {
    let mut accepting = [false; STATES];
    let mut node = 0_usize;
    let mut depth = 0;
    while depth <= 7 {
        accepting[node] = true;
        node = tree[node][1] as usize;
        depth += 1;
    }
    accepting
}

const fn build_steps() -> [[Step; 16]; STATES] {
    let tree = build_tree();
    let accepting = build_accepting(&tree);
    let mut steps = [[Step { next: 0, flags: 0, symbol: 0 }; 16]; STATES];
    let mut state = 0;
    while state < STATES {
        let mut nibble = 0;
        while nibble < 16 {
            let (mut node, mut flags, mut symbol) = (state, 0, 0);
            let mut bit = 4;
            while bit > 0 {
                bit -= 1;
                let child = tree[node][(nibble >> bit) & 1];
                if child & LEAF == 0 {
                    node = child as usize;
                } else {
                    if child & !LEAF == EOS {
                        flags |= FAIL;
                    }
                    flags |= EMIT;
                    symbol = (child & 0xff) as u8;
                    node = 0;
                }
            }
            if accepting[node] {
                flags |= ACCEPT;
            }
            steps[state][nibble] = Step { next: node as u8, flags, symbol };
            nibble += 1;
        }
        state += 1;
    }
    steps
}
