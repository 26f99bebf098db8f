//! A crate's sources as a tree of modules, with every path that each file names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path that a file names, and from where.
pub struct Mention {
    /// The module that it stands in.
    pub module: usize,
    pub path: Vec<String>,
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In code: an expression, a type, a macro's arguments.
    Code,
    /// The name of a macro that is called. It needs no path where its definition came before.
    Macro,
    /// A `use` for this file alone.
    Import,
    /// A `pub use`, of any width: the name can be found through this module.
    ReExport,
}

/// A name that a module can say without a path.
pub enum Name {
    /// Defined here.
    Item,
    Module(usize),
    /// Brought in by a `use`; the path is relative to the module.
    Use(Vec<String>),
}

#[derive(Default)]
pub struct Module {
    pub parent: Option<usize>,
    /// The file that holds it, an index of [`Tree::files`].
    pub file: usize,
    /// More than one where a module and a function, say, have one name.
    pub names: BTreeMap<String, Vec<Name>>,
    /// `use path::*`.
    pub globs: Vec<Vec<String>>,
}

pub struct File {
    /// Relative to the crate's `src`.
    pub path: PathBuf,
    pub lines: usize,
    /// Every identifier outside comments, with its line.
    pub words: Vec<(String, usize)>,
}

impl File {
    /// The first part of the path: `machine` for `machine/lab.rs`, `bench` for `bench.rs`.
    pub fn room(&self) -> String {
        let first = self.path.components().next().expect("a file has a name");
        let first = Path::new(first.as_os_str()).with_extension("");
        first.to_string_lossy().into_owned()
    }
}

/// The sources of one crate or more (`lib.rs`, `main.rs`), parsed.
pub struct Tree {
    pub files: Vec<File>,
    pub modules: Vec<Module>,
    pub mentions: Vec<Mention>,
    /// The modules that define macros, by the macros' names.
    pub macros: BTreeMap<String, usize>,
    /// The root of the library, by the name that its own binary calls it.
    pub library: Option<(String, usize)>,
}

impl Tree {
    /// Reads `src/lib.rs` and `src/main.rs`, and every module below them. Panics with the file's
    /// name where one cannot be read or parsed, and where a file belongs to no module: what is
    /// not parsed is not checked.
    pub fn read(name: &str, src: &Path) -> Tree {
        let mut tree =
            Tree { files: vec![], modules: vec![], mentions: vec![], macros: BTreeMap::new(), library: None };
        for root in ["lib.rs", "main.rs"] {
            if src.join(root).exists() {
                let module = tree.module(None);
                if root == "lib.rs" {
                    tree.library = Some((name.to_string(), module));
                }
                tree.file(src, Path::new(root), Path::new(""), module);
            }
        }
        let mut found = vec![];
        rust_files(src, &mut found);
        for path in found {
            let path = path.strip_prefix(src).expect("below src");
            assert!(tree.files.iter().any(|f| f.path == path), "{name}: no module declares {}", path.display());
        }
        tree
    }

    fn module(&mut self, parent: Option<usize>) -> usize {
        let file = parent.map_or(0, |p| self.modules[p].file);
        self.modules.push(Module { parent, file, ..Module::default() });
        self.modules.len() - 1
    }

    /// Parses `path`, the file of `module`; its own modules are files in `folder`.
    fn file(&mut self, src: &Path, path: &Path, folder: &Path, module: usize) {
        let whole = src.join(path);
        let text = std::fs::read_to_string(&whole).unwrap_or_else(|e| panic!("{}: {e}", whole.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", whole.display()));
        let tokens: TokenStream = text.parse().expect("what syn parsed");
        let mut words = vec![];
        idents(tokens, &mut words);
        let file = self.files.len();
        self.files.push(File { path: path.to_owned(), lines: text.lines().count(), words });
        self.modules[module].file = file;
        let mut visitor = Visitor { tree: self, src, folder: folder.to_owned(), module };
        visitor.visit_file(&syntax);
    }

    /// The file's path as a reader of the repository knows it.
    pub fn path(&self, file: usize) -> String {
        self.files[file].path.display().to_string()
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn idents(tokens: TokenStream, into: &mut Vec<(String, usize)>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => into.push((ident.to_string(), ident.span().start().line)),
            TokenTree::Group(group) => idents(group.stream(), into),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

struct Visitor<'a> {
    tree: &'a mut Tree,
    src: &'a Path,
    /// Where the files of this module's modules are.
    folder: PathBuf,
    module: usize,
}

impl Visitor<'_> {
    fn define(&mut self, name: &syn::Ident) {
        self.name(name.to_string(), Name::Item);
    }

    fn name(&mut self, name: String, what: Name) {
        self.tree.modules[self.module].names.entry(name).or_default().push(what);
    }

    fn mention(&mut self, path: Vec<String>, line: usize, kind: Kind) {
        self.tree.mentions.push(Mention { module: self.module, path, line, kind });
    }

    fn import(&mut self, tree: &syn::UseTree, prefix: &[String], kind: Kind) {
        let with = |ident: &syn::Ident| {
            let mut path = prefix.to_vec();
            if ident != "self" || prefix.is_empty() {
                path.push(ident.to_string());
            }
            path
        };
        match tree {
            syn::UseTree::Path(p) => self.import(&p.tree, &with(&p.ident), kind),
            syn::UseTree::Group(g) => g.items.iter().for_each(|t| self.import(t, prefix, kind)),
            syn::UseTree::Glob(_) => self.tree.modules[self.module].globs.push(prefix.to_vec()),
            syn::UseTree::Name(n) => self.bind(with(&n.ident), None, n.ident.span(), kind),
            syn::UseTree::Rename(r) => self.bind(with(&r.ident), Some(&r.rename), r.ident.span(), kind),
        }
    }

    fn bind(&mut self, path: Vec<String>, rename: Option<&syn::Ident>, span: proc_macro2::Span, kind: Kind) {
        let name = rename.map_or_else(|| path.last().cloned().unwrap_or_default(), ToString::to_string);
        self.name(name, Name::Use(path.clone()));
        self.mention(path, span.start().line, kind);
    }

    /// Paths in a macro's arguments, which the parser leaves alone.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = vec![];
        let (mut line, mut colons) = (0, 0);
        let mut after_dot = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path, line);
                        line = ident.span().start().line;
                    }
                    if !after_dot {
                        path.push(ident.to_string());
                    }
                    (colons, after_dot) = (0, false);
                }
                TokenTree::Punct(p) if p.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.end(&mut path, line);
                    after_dot = matches!(&other, TokenTree::Punct(p) if p.as_char() == '.');
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path, line);
    }

    fn end(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.mention(std::mem::take(path), line, Kind::Code);
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Const(i) => self.define(&i.ident),
            syn::Item::Enum(i) => self.define(&i.ident),
            syn::Item::Fn(i) => self.define(&i.sig.ident),
            syn::Item::Static(i) => self.define(&i.ident),
            syn::Item::Struct(i) => self.define(&i.ident),
            syn::Item::Trait(i) => self.define(&i.ident),
            syn::Item::TraitAlias(i) => self.define(&i.ident),
            syn::Item::Type(i) => self.define(&i.ident),
            syn::Item::Union(i) => self.define(&i.ident),
            syn::Item::Macro(i) => {
                if let Some(name) = &i.ident {
                    self.define(name);
                    self.tree.macros.insert(name.to_string(), self.module);
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let module = self.tree.module(Some(self.module));
        self.name(name.clone(), Name::Module(module));
        let folder = self.folder.join(&name);
        if let Some((_, items)) = &item.content {
            let mut inner = Visitor { tree: self.tree, src: self.src, folder, module };
            items.iter().for_each(|i| inner.visit_item(i));
            return;
        }
        let beside = folder.with_extension("rs");
        let path = if self.src.join(&beside).exists() { beside } else { folder.join("mod.rs") };
        self.tree.file(self.src, &path, &folder, module);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let private = matches!(item.vis, syn::Visibility::Inherited);
        self.import(&item.tree, &[], if private { Kind::Import } else { Kind::ReExport });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.segments[0].ident.span().start().line;
        self.mention(path.segments.iter().map(|s| s.ident.to_string()).collect(), line, Kind::Code);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let line = mac.path.segments[0].ident.span().start().line;
        let path = mac.path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.mention(path, line, Kind::Macro);
        self.tokens(mac.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}
