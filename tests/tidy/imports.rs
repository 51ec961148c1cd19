//! Which file of a crate imports which, read from the text of the source.
//!
//! An import is a `use`, or a path in the code that begins with `crate`, `super`, `self` or a child module. It leads to the
//! file that defines what is named: a name that a module only passes on (`pub use`) leads to where it comes from, and passing
//! on is no import. What is in `#[cfg(test)] mod tests` does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path in its crate. The root is empty.
pub(crate) type Module = Vec<String>;

/// The files of a crate and what each imports from the others.
pub(crate) struct Imports {
    files: BTreeMap<Module, Source>,
    pub(crate) edges: BTreeMap<Module, BTreeSet<Module>>,
}

struct Source {
    uses: Vec<Use>,
    paths: Vec<Vec<String>>,
}

struct Use {
    is_public: bool,
    path: Vec<String>,
    name: String,
}

impl Imports {
    /// Reads a crate whose root file is `lib.rs` in a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(folder, &mut Vec::new(), &mut files);
        let mut imports = Self { files, edges: BTreeMap::new() };
        for module in imports.files.keys() {
            let found = imports.of_file(module);
            imports.edges.insert(module.clone(), found);
        }
        imports
    }

    /// Files that import each other, directly or by way of others: each group of them.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            self.edges.keys().map(|module| (module, self.reached_from(module))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for module in self.edges.keys().filter(|module| reach[*module].contains(*module)) {
            if seen.insert(module) {
                let circle: Vec<_> = reach[module].iter().filter(|other| reach[**other].contains(module)).collect();
                seen.extend(circle.iter().map(|other| **other));
                circles.push(circle.iter().map(|other| other.join("/")).collect());
            }
        }
        circles
    }

    fn reached_from(&self, module: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Module> = self.edges[module].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&self.edges[module]);
            }
        }
        reached
    }

    fn of_file(&self, module: &Module) -> BTreeSet<Module> {
        let source = &self.files[module];
        // The root names every module; that is what it is for.
        if module.is_empty() {
            return BTreeSet::new();
        }
        let used = source.uses.iter().filter_map(|used| {
            let leads = self.leads_to(self.absolute(module, &used.path)?);
            let passed_on = used.is_public && leads.starts_with(module);
            (!passed_on).then_some(leads)
        });
        let named = source.paths.iter().filter_map(|path| Some(self.leads_to(self.absolute(module, path)?)));
        used.chain(named).filter(|leads| leads != module).collect()
    }

    /// A path as seen from the crate's root; none when it leads out of the crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module.as_slice(), rest].concat()),
            "super" => {
                let above = path.iter().take_while(|part| *part == "super").count();
                Some([&module[..module.len().checked_sub(above)?], &path[above..]].concat())
            }
            _ => {
                let child = [module.as_slice(), std::slice::from_ref(first)].concat();
                self.files.contains_key(&child).then(|| [module.as_slice(), path].concat())
            }
        }
    }

    /// The file that defines what an absolute path names.
    fn leads_to(&self, path: Vec<String>) -> Module {
        let mut module = Module::new();
        for (at, part) in path.iter().enumerate() {
            module.push(part.clone());
            if self.files.contains_key(&module) {
                continue;
            }
            module.pop();
            let passed_on = self.files[&module].uses.iter().find(|used| used.is_public && used.name == *part);
            let from = passed_on.and_then(|used| self.absolute(&module, &used.path));
            return match from {
                Some(from) => self.leads_to([from.as_slice(), &path[at + 1..]].concat()),
                None => module,
            };
        }
        module
    }
}

fn read(folder: &Path, above: &mut Module, files: &mut BTreeMap<Module, Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        if path.is_dir() {
            above.push(stem);
            read(&path, above, files);
            above.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let module = if stem == "lib" { above.clone() } else { [above.as_slice(), &[stem]].concat() };
            files.insert(module, Source::of(&fs::read_to_string(&path).expect("a readable file")));
        }
    }
}

impl Source {
    fn of(text: &str) -> Self {
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code: String =
            code.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
        let (mut uses, mut rest) = (Vec::new(), String::new());
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let start = line.trim_start();
            let public = start
                .strip_prefix("pub")
                .map(|after| after.trim_start_matches("(crate)").trim_start_matches("(super)"));
            let Some(first) = public.unwrap_or(start).trim_start().strip_prefix("use ") else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut tree = first.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().expect("a use ends"));
            }
            take_apart(&[], tree.trim_end().trim_end_matches(';'), public.is_some(), &mut uses);
        }
        Self { uses, paths: paths(&rest) }
    }
}

/// The names of a tree such as `a::{b, c::{d, e as f}}`.
fn take_apart(before: &[String], tree: &str, is_public: bool, uses: &mut Vec<Use>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
        let parts = path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        let mut path: Vec<String> = before.iter().cloned().chain(parts).collect();
        // `self` in braces is the module itself, and a `*` is all of it.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
            path.pop();
        }
        if let Some(last) = path.last() {
            let name = alias.unwrap_or(last).trim().to_owned();
            uses.push(Use { is_public, path, name });
        }
        return;
    };
    let before = [
        before,
        &head.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect::<Vec<_>>(),
    ]
    .concat();
    let inner = inner.strip_suffix('}').expect("a brace closes what it opens");
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                take_apart(&before, &inner[start..at], is_public, uses);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        take_apart(&before, &inner[start..], is_public, uses);
    }
}

/// Everything of the form `a::b…` in a text.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_part(c)).filter(|word| word.contains("::") && !word.starts_with(':'));
    words.map(|word| word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()).collect()
}
