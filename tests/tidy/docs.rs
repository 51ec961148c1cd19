//! What is declared once in the source is told in the documents, in the same words where these are names.

use std::collections::BTreeSet;
use std::fs;

use switchboard::config::{Fallback, SETTINGS, Setting, Takes};
use switchboard::metrics::{ALL, Description, Kind};

use crate::{all_files, workspace};

/// The rows of the tables of a page, each as its cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(workspace().join(page)).expect("a page");
    let rows = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.replace("\\|", "\u{1}").split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect())
        .collect()
}

#[test]
fn every_setting_is_in_its_table_as_it_is_declared() {
    let rows = rows("docs/operations.md");
    let mut wrong = Vec::new();
    for setting in SETTINGS {
        let Setting { name, value, default, .. } = setting;
        let flag = format!("`--{name} {value}`");
        let Some(row) = rows.iter().find(|row| row[0] == flag) else {
            wrong.push(format!("there is no row for {flag}"));
            continue;
        };
        let default = match default {
            Fallback::Text(text) => format!("`{text}`"),
            Fallback::Described(text) => (*text).to_owned(),
        };
        let expected = [format!("`{}`", setting.variable()), format!("`{name}`"), default];
        if row[1..4] != expected {
            wrong.push(format!("the row of {flag} has {:?}, and it is {expected:?}", &row[1..4]));
        }
        if setting.takes == Takes::SecretFile {
            let variable = format!("`{}`", setting.variable().trim_end_matches("_FILE"));
            if !rows.iter().any(|row| row[0].is_empty() && row[1] == variable) {
                wrong.push(format!("there is no row for {variable}"));
            }
        }
    }
    let declared: BTreeSet<String> = SETTINGS.iter().map(|setting| format!("--{}", setting.name)).collect();
    for row in rows.iter().filter(|row| row[0].starts_with("`--") && row.len() == 5) {
        let flag = row[0].trim_matches('`').split(' ').next().unwrap_or_default();
        if flag != "--config" && !declared.contains(flag) {
            wrong.push(format!("{flag} is no setting"));
        }
    }
    assert!(wrong.is_empty(), "docs/operations.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_metric_is_in_its_table_as_it_is_declared() {
    let rows = rows("docs/operations.md");
    let mut wrong = Vec::new();
    for Description { name, kind, labels, .. } in ALL {
        let Some(row) = rows.iter().find(|row| row[0] == format!("`{name}`")) else {
            wrong.push(format!("there is no row for {name}"));
            continue;
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "summary",
        };
        // A label may be followed by its values, which are in backticks too: `reason`: `one`, `other`; `subject`: …
        let told: Vec<&str> = row[2].split([',', ';']).filter_map(label).collect();
        if row[1] != kind || !labels.iter().all(|label| told.contains(label)) {
            wrong.push(format!("the row of {name} has {:?}, and it is {kind:?} {labels:?}", &row[1..3]));
        }
    }
    for row in rows.iter().filter(|row| row[0].starts_with("`switchboard_")) {
        if !ALL.iter().any(|known| format!("`{}`", known.name) == row[0]) {
            wrong.push(format!("{} is no metric", row[0]));
        }
    }
    assert!(wrong.is_empty(), "docs/operations.md:\n{}", wrong.join("\n"));
}

/// What is in backticks and looks like the name of a test is one. `…_on_postgres` stands for a name that came just before.
#[test]
fn every_test_that_a_page_names_is_there() {
    const LONG: usize = 20;
    const WORDS: usize = 5;

    let sources: Vec<String> = all_files().into_iter().map(|file| file.text).collect();
    let looks_like_one = |name: &&str| {
        name.len() >= LONG
            && name.split('_').count() >= WORDS
            && name.chars().all(|letter| matches!(letter, 'a'..='z' | '0'..='9' | '_'))
            && !name.starts_with("switchboard_")
    };
    let mut missing = Vec::new();
    for page in ["docs/architecture.md", "docs/security.md"] {
        let text = fs::read_to_string(workspace().join(page)).expect("a page");
        for name in text.split('`').skip(1).step_by(2).filter(looks_like_one) {
            let declared = format!("fn {name}(");
            if !sources.iter().any(|source| source.contains(&declared)) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "there is no such test:\n{}", missing.join("\n"));
}

fn label(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.split('`').next()
}
