//! Layout rules that people forget, with what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension, sorted, as paths relative to the root.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path.strip_prefix(root()).expect("below the root").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("a source file is UTF-8")
}

/// Code lines only: comments and strings may say what they like.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

fn complain(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_top_level_is_as_on_the_map() {
    const VISIBLE: [&str; 11] = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "bench",
        "build",
        "schema",
        "scripts",
        "src",
        "target",
        "tests",
    ];
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root()).expect("the root can be listed") {
        let name = entry.expect("the entry can be read").file_name().into_string().expect("UTF-8");
        if !name.starts_with('.') && !name.ends_with(".etcd") && !VISIBLE.contains(&name.as_str()) {
            complaints.push(format!("{name}: put it into one of the seven rooms of the top level"));
        }
    }
    complain(complaints);
}

#[test]
fn pure_sees_no_edge_clock_thread_or_file() {
    const FORBIDDEN: [&str; 12] = [
        "crate::edge",
        "std::time::Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "RandomState",
        "std::collections::HashMap",
        "std::collections::HashSet",
        "std::process",
        "libc::",
    ];
    let mut complaints = Vec::new();
    for path in files("src/pure", "rs") {
        let is_test = path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests");
        for (number, line) in code(&read(&path)) {
            for token in FORBIDDEN.iter().filter(|t| line.contains(**t)) {
                if !is_test {
                    complaints.push(format!(
                        "{}:{number}: `{token}`: pure code takes it as an argument (style: the core is pure)",
                        path.display()
                    ));
                }
            }
            if line.contains("#[cfg(test)]") {
                break;
            }
        }
    }
    complain(complaints);
}

/// The room of a file: `pure/mvcc`, `pure/wire/h2`, `edge/ring`, `edge/io` (a file beside the rooms), `stdx`.
fn room_of(names: &[&str]) -> String {
    let depth = match names {
        ["pure", "wire", ..] => 3,
        ["pure" | "edge", ..] => 2,
        _ => 1,
    };
    names[..depth.min(names.len())].join("/")
}

/// The rooms that a line's paths from the crate's root lead to.
fn imports(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for path in line.split("crate::").skip(1) {
        let end = path.find(|c: char| !(c.is_alphanumeric() || "_:{}, ".contains(c))).unwrap_or(path.len());
        let (stem, list) = path[..end].split_once('{').unwrap_or((&path[..end], ""));
        let stem: Vec<&str> = stem.split("::").filter(|name| !name.is_empty()).collect();
        if let ["pure" | "edge"] | ["pure", "wire"] = stem[..] {
            // `use crate::edge::{a, b::c}` names rooms inside the braces.
            for item in list.split(',').filter_map(|item| item.trim().split("::").next()) {
                rooms.push(room_of(&[&stem[..], &[item]].concat()));
            }
        } else if !stem.is_empty() {
            rooms.push(room_of(&stem));
        }
    }
    rooms
}

/// What one room sees must not see it, not even by a third one: each can be read, and tested, without those that
/// build on it.
#[test]
fn no_circle_between_rooms() {
    let mut sees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files("src", "rs") {
        let name = path.to_str().expect("UTF-8");
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("/loom/");
        if is_test || name.starts_with("src/testing") || name == "src/main.rs" {
            continue;
        }
        let names: Vec<&str> = name["src/".len()..name.len() - ".rs".len()].split('/').collect();
        let room = room_of(&names);
        for (_, line) in code(&read(&path)) {
            // The tests inside a file come last.
            if line.starts_with("mod ") && line.ends_with('{') {
                break;
            }
            let others = imports(line).into_iter().filter(|other| *other != room);
            sees.entry(room.clone()).or_default().extend(others);
        }
    }
    assert!(sees["edge/shard"].contains("pure/front") && sees["pure/front"].contains("pure/wire/grpc"));
    // Rooms that see nobody who is left go, until only circles are left.
    loop {
        let left: BTreeSet<String> = sees.keys().cloned().collect();
        let before = sees.len();
        sees.retain(|_, others| others.iter().any(|other| left.contains(other)));
        if sees.len() == before {
            break;
        }
    }
    let left: BTreeSet<String> = sees.keys().cloned().collect();
    let complaints = sees.iter().map(|(room, others)| {
        let others: Vec<&String> = others.intersection(&left).collect();
        format!(
            "{room} sees {others:?}, and one of these sees it again: move what both need into a room below"
        )
    });
    complain(complaints.collect());
}

#[test]
fn unsafe_stays_where_it_is_listed() {
    const ALLOWED: [&str; 9] = [
        "src/pure/mvcc/versions.rs",
        "src/stdx/append.rs",
        "src/stdx/sync.rs",
        "src/edge/buffer.rs",
        "src/edge/mesh/mailbox.rs",
        "src/edge/mesh/published.rs",
        "src/edge/ops/signals.rs",
        "src/edge/ring/",
        "src/edge/system.rs",
    ];
    let mut complaints = Vec::new();
    for path in files("src", "rs") {
        let name = path.to_str().expect("UTF-8");
        if ALLOWED.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        for (number, line) in code(&read(&path)) {
            if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"]
                .iter()
                .any(|u| line.contains(u))
            {
                complaints
                    .push(format!("{name}:{number}: unsafe belongs into the files listed in tests/tidy.rs"));
            }
        }
    }
    complain(complaints);
}

#[test]
fn every_module_has_a_contract() {
    let mut complaints = Vec::new();
    for path in files("src", "rs").into_iter().filter(|p| p.ends_with("mod.rs")) {
        let text = read(&path);
        let header: String = text.lines().take_while(|l| l.starts_with("//!")).collect::<Vec<_>>().join("\n");
        for word in ["Owns:", "Always true:", "Not here:"] {
            if !header.contains(word) {
                complaints.push(format!(
                    "{}: the header lacks `{word}` (style: headers are contracts)",
                    path.display()
                ));
            }
        }
    }
    complain(complaints);
}

#[test]
fn every_room_is_on_the_map_and_the_map_names_no_other() {
    let map = read(Path::new("src/README.md"));
    let mut complaints = Vec::new();
    for path in files("src", "rs").into_iter().filter(|p| p.ends_with("mod.rs")) {
        let room = path.parent().expect("a file has a folder").strip_prefix("src").expect("below src");
        if !room.as_os_str().is_empty() && !map.contains(&format!("`{}/`", room.display())) {
            let named_by_parent = room.components().count() > 2
                && map.lines().any(|l| {
                    l.contains(&format!("`{}/`", room.parent().expect("deep").display()))
                        && l.contains(&format!("`{}`", room.file_name().expect("named").display()))
                });
            if !named_by_parent {
                complaints.push(format!("src/{}: name it in src/README.md", room.display()));
            }
        }
    }
    for line in map.lines().filter(|l| l.starts_with("| `")) {
        let room = line.split('`').nth(1).expect("a quoted name");
        if !root().join("src").join(room).exists() {
            complaints.push(format!("src/README.md names {room}, which does not exist"));
        }
    }
    complain(complaints);
}

#[test]
fn no_stub_and_no_forgotten_debugging() {
    let banned = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("d", "bg!("),
        concat!("#[ign", "ore"),
        concat!("let _", " = "),
    ];
    let mut complaints = Vec::new();
    for folder in ["src", "tests"] {
        for path in files(folder, "rs") {
            for (number, line) in read(&path).lines().enumerate() {
                for token in banned.iter().filter(|t| line.contains(**t)) {
                    complaints.push(format!(
                        "{}:{}: `{token}`: finish it, or name the result",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    complain(complaints);
}

#[test]
fn decisions_are_numbered_and_have_a_status() {
    let mut numbers = Vec::new();
    for path in files("src/decisions", "md") {
        let name = path.file_name().expect("named").to_str().expect("UTF-8").to_owned();
        numbers.push(name[..4].parse::<u32>().expect("a decision's file name starts with four digits"));
        assert!(read(&path).contains("\nStatus: "), "{name}: say its status");
    }
    let count = u32::try_from(numbers.len()).expect("few");
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "decision numbers are unique and without gaps");
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let banned =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("artif", "actory"), concat!("bash_", "jobs")];
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "scripts", "schema", "bench"] {
        for extension in ["rs", "md", "txt", "py", "go", "mod", "proto", "sh", "toml"] {
            for path in files(folder, extension) {
                let text = read(&path);
                for token in banned.iter().filter(|t| text.contains(**t)) {
                    complaints.push(format!("{}: `{token}` is a place of one machine", path.display()));
                }
            }
        }
    }
    complain(complaints);
}
