//! The pictures of modules and their imports in docs/architecture.md, drawn from the source.
//!
//! An arrow is an import. One that follows from others is left out, so that the picture can be read. When the source has
//! changed, `SWITCHBOARD_DRAW=1 tests/run --quick -- the_pictures` draws them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::imports::Imports;
use crate::{CRATES, workspace};

type Arrows = BTreeMap<String, BTreeSet<String>>;

const PAGE: &str = "docs/architecture.md";

/// Crates that all others use.
const GROUND: [&str; 2] = ["model", "metrics"];

#[test]
fn the_pictures_are_those_of_the_source() {
    let path = workspace().join(PAGE);
    let mut page = fs::read_to_string(&path).expect("a page");
    let mut wrong = Vec::new();
    for (name, arrows) in [("broker", broker()), ("plugin-host", rooms("broker/plugin-host/src"))] {
        let (begin, end) = (format!("<!-- picture of {name} -->\n"), "<!-- end -->");
        let from = page.find(&begin).expect("a place for the picture") + begin.len();
        let to = from + page[from..].find(end).expect("its end");
        let drawn = drawn(&arrows);
        if page[from..to] != drawn {
            wrong.push(name);
            page.replace_range(from..to, &drawn);
        }
    }
    if std::env::var_os("SWITCHBOARD_DRAW").is_some() {
        fs::write(path, page).expect("a writable page");
    } else {
        assert!(wrong.is_empty(), "{PAGE} shows another picture of {wrong:?}; SWITCHBOARD_DRAW=1 draws them anew");
    }
}

/// The modules of the broker, and the crates below it as they are used there.
fn broker() -> Arrows {
    let mut arrows = rooms("broker/src");
    for (module, imported) in &mut arrows {
        let text = text_of(module);
        for below in ["store", "plugin"] {
            if text.contains(&format!("crate::{below}::")) {
                imported.insert(if below == "plugin" { "plugin-host".to_owned() } else { below.to_owned() });
            }
        }
    }
    arrows.remove("dice");
    arrows
}

/// What is directly below the root of a crate, and what of it imports what.
fn rooms(folder: &str) -> Arrows {
    assert!(CRATES.iter().any(|layers| layers.folder == folder), "{folder} has ranks");
    let mut arrows = Arrows::new();
    for (file, imported) in Imports::of(&workspace().join(folder)).edges {
        let Some(room) = file.first().filter(|room| !GROUND.contains(&room.as_str())) else { continue };
        let leads = imported.iter().filter_map(|leads| leads.first()).filter(|leads| *leads != room).cloned();
        arrows.entry(room.clone()).or_default().extend(leads);
    }
    arrows
}

fn text_of(module: &str) -> String {
    let root = workspace().join("broker/src");
    let mut files = vec![root.join(format!("{module}.rs")), root.join(module)];
    let mut text = String::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            text.push_str(&fs::read_to_string(path).expect("a file"));
        }
    }
    text
}

fn drawn(arrows: &Arrows) -> String {
    let mut text = String::from("```mermaid\nflowchart TD\n");
    for (from, all) in arrows {
        for to in all.iter().filter(|to| !all.iter().any(|other| other != *to && leads(arrows, other, to))) {
            let _ = writeln!(text, "    {from} --> {to}");
        }
    }
    text + "```\n"
}

fn leads(arrows: &Arrows, from: &str, to: &str) -> bool {
    arrows.get(from).is_some_and(|all| all.iter().any(|next| next == to || leads(arrows, next, to)))
}
