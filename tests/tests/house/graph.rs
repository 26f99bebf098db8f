//! Which file uses which: the paths of a [`Tree`], followed to where their item is defined.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Kind, Mention, Name, Tree};

/// What a path leads to.
enum Target {
    /// An item that this module defines, and its name.
    Item(usize, String),
    Module(usize),
}

/// One file's use of another: for each name, the first line that says it.
pub type Uses = BTreeMap<String, usize>;

pub struct Graph {
    /// By the file that uses and the file that defines.
    pub edges: BTreeMap<(usize, usize), Uses>,
}

impl Graph {
    /// A use through a re-export counts for the file that defines the item, and the re-export of
    /// a module's own inner item for nobody: a `mod.rs` may offer what its files define.
    pub fn new(tree: &Tree) -> Graph {
        let mut edges: BTreeMap<(usize, usize), Uses> = BTreeMap::new();
        for mention in &tree.mentions {
            let found = resolve(tree, mention.module, &mention.path, 0).or_else(|| by_order(tree, mention));
            let Some(Target::Item(module, name)) = found else { continue };
            let (from, to) = (tree.modules[mention.module].file, tree.modules[module].file);
            if from == to || (mention.kind == Kind::ReExport && inside(tree, module, mention)) {
                continue;
            }
            let uses = edges.entry((from, to)).or_default();
            uses.entry(name).or_insert(mention.line);
        }
        Graph { edges }
    }

    /// The groups of files that all use each other, directly or by way of others.
    pub fn circles(&self) -> BTreeSet<BTreeSet<usize>> {
        let files: BTreeSet<usize> = self.edges.keys().map(|(from, _)| *from).collect();
        let reached: BTreeMap<usize, BTreeSet<usize>> = files.iter().map(|&file| (file, self.reached(file))).collect();
        let circle = |(file, to): (&usize, &BTreeSet<usize>)| -> BTreeSet<usize> {
            to.iter().copied().filter(|other| reached.get(other).is_some_and(|back| back.contains(file))).collect()
        };
        reached.iter().map(circle).filter(|circle| !circle.is_empty()).collect()
    }

    /// Every file that `from` uses, directly or by way of others.
    fn reached(&self, from: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            let used = self.edges.range((file, 0)..=(file, usize::MAX)).map(|((_, to), _)| *to);
            open.extend(used.filter(|to| reached.insert(*to)));
        }
        reached
    }
}

/// A macro that is known by its name alone, since its definition came before.
fn by_order(tree: &Tree, mention: &Mention) -> Option<Target> {
    let [name] = &mention.path[..] else { return None };
    let module = tree.macros.get(name).filter(|_| mention.kind == Kind::Macro)?;
    Some(Target::Item(*module, name.clone()))
}

/// Whether `module` is below the one that mentions it.
fn inside(tree: &Tree, module: usize, mention: &Mention) -> bool {
    std::iter::successors(Some(module), |&m| tree.modules[m].parent).any(|m| m == mention.module)
}

/// Follows a path as the compiler does; None where it leads out of the crate, or is a local name.
fn resolve(tree: &Tree, from: usize, path: &[String], depth: usize) -> Option<Target> {
    // `use log::log` of another crate, which would lead to itself, ends here.
    if depth > 16 {
        return None;
    }
    let (first, mut rest) = path.split_first()?;
    let mut here = match first.as_str() {
        "crate" => Target::Module(root(tree, from)),
        "self" => Target::Module(from),
        "super" => Target::Module(tree.modules[from].parent?),
        "Self" => return None,
        name => match named(tree, from, name, !rest.is_empty(), depth) {
            Some(target) => target,
            None => match &tree.library {
                Some((library, root)) if library == name && !rest.is_empty() => Target::Module(*root),
                _ => return None,
            },
        },
    };
    while let (&Target::Module(module), Some((next, after))) = (&here, rest.split_first()) {
        here = match next.as_str() {
            "super" => Target::Module(tree.modules[module].parent?),
            name => named(tree, module, name, !after.is_empty(), depth)?,
        };
        rest = after;
    }
    Some(here)
}

fn root(tree: &Tree, from: usize) -> usize {
    std::iter::successors(Some(from), |&m| tree.modules[m].parent).last().expect("at least itself")
}

/// What a module calls `name`: a module where more of the path follows, and otherwise what is
/// none, if there is such.
fn named(tree: &Tree, module: usize, name: &str, more: bool, depth: usize) -> Option<Target> {
    let here = &tree.modules[module];
    let mut found = here.names.get(name).into_iter().flatten().filter_map(|what| match what {
        Name::Item => Some(Target::Item(module, name.to_string())),
        Name::Module(inner) => Some(Target::Module(*inner)),
        Name::Use(path) => resolve(tree, module, path, depth + 1),
    });
    let wanted = |target: &Target| matches!(target, Target::Module(_)) == more;
    let first = found.next();
    match first {
        Some(target) if wanted(&target) => return Some(target),
        first => {
            if let Some(target) = found.find(wanted).or(first) {
                return Some(target);
            }
        }
    }
    // The first name of a glob's own path is not looked for in globs: it could lead in circles.
    let direct = |glob: &&Vec<String>| {
        let first = &glob[0];
        ["crate", "self", "super"].contains(&first.as_str()) || here.names.contains_key(first)
    };
    here.globs.iter().filter(direct).find_map(|glob| match resolve(tree, module, glob, depth + 1)? {
        Target::Module(other) if other != module => named(tree, other, name, more, depth + 1),
        _ => None,
    })
}
