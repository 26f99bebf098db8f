//! The house is in order: rooms use only rooms below them, no files use each other in a circle,
//! KVM's types, `unsafe` and clap stay in their rooms, and no file is too long to be one idea.

mod graph;
mod rules;
mod tree;

use std::path::{Path, PathBuf};

use graph::Graph;
use rules::{LONGEST, ROOMS, WORDS};
use tree::Tree;

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn the_vmm_keeps_its_order() {
    let tree = Tree::read("vmm", &sources("vmm"));
    let graph = Graph::new(&tree);
    // So that a parser that reads nothing, and finds nothing, is no pass.
    assert!(tree.files.len() > 250 && graph.edges.len() > 1000, "{} files", tree.files.len());
    let mut found = rules::order(&tree, &graph, ROOMS);
    found.extend(rules::cycles(&tree, &graph));
    found.extend(rules::words(&tree, WORDS));
    found.extend(rules::lengths(&tree));
    assert_none(&found);
}

#[test]
fn the_guest_has_no_cycle() {
    let tree = Tree::read("guest", &sources("guest"));
    let graph = Graph::new(&tree);
    assert!(tree.files.len() > 50 && graph.edges.len() > 100, "{} files", tree.files.len());
    let mut found = rules::cycles(&tree, &graph);
    found.extend(rules::lengths(&tree));
    assert_none(&found);
}

/// A made-up crate, whose files are given with their texts.
fn made_up(files: &[(&str, &str)]) -> (Tree, Graph) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = Tree::read("made", dir.path());
    let graph = Graph::new(&tree);
    (tree, graph)
}

const MADE_UP_ROOMS: &[&[&str]] = &[&["cli"], &["left", "right"], &["low"]];

#[test]
fn an_arrow_against_the_order_is_found() {
    let (tree, graph) = made_up(&[
        ("lib.rs", "mod cli; mod left; mod low; mod new; mod right;"),
        ("cli.rs", "use crate::low::down; pub fn up() { down() }"),
        ("low.rs", "pub fn down() { if false { crate::cli::up() } }"),
        ("left.rs", "pub struct Left;"),
        ("right.rs", "fn beside() -> Option<crate::left::Left> { None }"),
        ("new.rs", ""),
    ]);
    assert_eq!(
        rules::order(&tree, &graph, MADE_UP_ROOMS),
        [
            "new.rs: the room new has no place in the order of rooms. Give it one in ROOMS \
             (tests/tests/house/rules.rs) and in docs/internals/architecture.md.",
            "low.rs:1 uses up: low is below cli, or beside it, in the order of rooms, and must not use it. \
             Move the item of cli.rs to low or a room below it, or pass what is needed as an argument.",
            "right.rs:1 uses Left: right is below left, or beside it, in the order of rooms, and must not use it. \
             Move the item of left.rs to right or a room below it, or pass what is needed as an argument.",
        ]
    );
}

/// Each pair of files uses each other, and only one way of saying it leads back.
#[test]
fn every_way_to_use_another_file_closes_a_cycle() {
    let a = "macro_rules! made { () => {} } pub struct A; pub fn a() {} use super::b::B; fn f(_: B) {}";
    let ways = [
        ("an import", "use super::a::A; pub struct B; fn g(_: A) {}"),
        ("a path in code", "pub struct B; fn g() { crate::room::a::a() }"),
        ("an import within a function", "pub struct B; fn g() { use super::a; a::a() }"),
        ("a re-export", "use super::A; pub struct B; fn g(_: A) {}"),
        ("a re-export by a path in code", "pub struct B; fn g(_: crate::A) {}"),
        ("a glob", "use super::a::*; pub struct B; fn g(_: A) {}"),
        ("a renamed module", "use super::a as other; pub struct B; fn g(_: other::A) {}"),
        ("a macro's arguments", "pub struct B; fn g() { assert!(true, \"{:?}\", super::a::a()) }"),
        ("a macro's definition", "pub struct B; macro_rules! m { () => { $crate::room::a::a() } }"),
        ("a macro that came before", "pub struct B; fn g() { made!() }"),
        ("an attribute", "pub struct B; #[arg(value_parser = super::a::a)] fn g() {}"),
        (
            "a macro of another crate, in a nested module",
            "pub struct B; mod c { log::info!(\"{}\", super::super::a::a()); }",
        ),
        ("a generic argument", "pub struct B; fn g() -> Vec<[super::a::A; 2]> { vec![] }"),
        ("tests", "pub struct B; #[cfg(test)] mod tests { use crate::room::a::A; fn g(_: A) {} }"),
    ];
    for (way, b) in ways {
        let (tree, graph) = made_up(&[
            ("lib.rs", "mod room; pub use room::A;"),
            ("room/mod.rs", "pub mod a; pub mod b; pub use a::A;"),
            ("room/a.rs", a),
            ("room/b.rs", b),
        ]);
        let found = rules::cycles(&tree, &graph);
        assert_eq!(found.len(), 1, "{way}: {found:?}");
        assert!(
            found[0].starts_with("room/a.rs, room/b.rs: these files use each other. Move the "),
            "{way}: {found:?}"
        );
        assert!(found[0].contains("\n    room/b.rs:1 uses "), "{way}: {found:?}");
    }
}

#[test]
fn longer_cycles_and_parents_are_found_and_lines_are_not() {
    let (tree, graph) = made_up(&[
        ("lib.rs", "mod one; mod two; mod three; mod parent;"),
        ("one.rs", "pub fn f() { crate::two::f() }"),
        ("two.rs", "pub fn f() { crate::three::f() }"),
        ("three.rs", "pub fn f() { crate::one::f() } // crate::parent::P"),
        ("parent/mod.rs", "mod child; pub struct P; fn f() { child::f() }"),
        ("parent/child.rs", "pub fn f() -> super::P { super::P }"),
    ]);
    let found = rules::cycles(&tree, &graph);
    let mut files: Vec<_> = found.iter().map(|f| f.split(':').next().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["one.rs, three.rs, two.rs", "parent/child.rs, parent/mod.rs"]);

    // A parent that offers what its child defines does not use it.
    let (tree, graph) = made_up(&[
        ("lib.rs", "mod parent; pub use parent::f;"),
        ("parent/mod.rs", "mod child; pub use child::f; pub struct P;"),
        ("parent/child.rs", "/// See [`crate::f`].\npub fn f() -> super::P { super::P }"),
    ]);
    assert_none(&rules::cycles(&tree, &graph));
}

#[test]
fn words_out_of_their_rooms_and_long_files_are_found() {
    let long = "// a line\n".repeat(LONGEST);
    let (tree, _) = made_up(&[
        ("lib.rs", "mod kvm; mod machine; mod long; mod full;"),
        ("kvm.rs", "use kvm_bindings::kvm_run; fn f(r: *const kvm_run) { unsafe { r.read() }; }"),
        ("machine.rs", "//! unsafe, clap\nfn f() {\n    g!(clap::Arg);\n    unsafe { kvm_ioctls::f() }\n}"),
        ("full.rs", &long),
        ("long.rs", &(long.clone() + "// one more\n")),
    ]);
    assert_eq!(
        rules::words(&tree, WORDS),
        [
            "machine.rs:4: `kvm_ioctls` belongs to kvm/ alone: use a type of vmm/src/kvm, and add it there where it \
             is missing.",
            "machine.rs:4: `unsafe` belongs to kvm/ alone: move the unsafe operation there, behind a safe function.",
            "machine.rs:3: `clap` belongs to cli/ alone: pass what was read from the command line as a plain type.",
        ]
    );
    assert_eq!(
        rules::lengths(&tree),
        ["long.rs: 421 lines, and at most 420 are wanted. Split it where a second idea begins."]
    );
}

#[test]
#[should_panic(expected = "made: no module declares lost.rs")]
fn a_file_that_no_module_declares_is_found() {
    made_up(&[("lib.rs", ""), ("lost.rs", "")]);
}
