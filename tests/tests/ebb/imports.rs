//! Who may import whom. What is not listed here is wrong; adding a line is a decision about the architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use cargo_metadata::{Metadata, MetadataCommand};

/// A crate of the workspace, the crates of the workspace it may import, and what must not be in it, however deep.
struct Rule {
    name: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

const RULES: [Rule; 12] = [
    Rule { name: "failpoints", may: &[], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule { name: "sigs", may: &[], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule { name: "imagezip", may: &["failpoints", "sigs"], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule {
        name: "fuzz-harness",
        may: &["imagezip", "boss-verify", "sigs"],
        never: &["libfuzzer-sys", "tokio", "reqwest", "axum", "sqlx"],
    },
    Rule { name: "boss-api", may: &["sigs"], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule { name: "boss-model", may: &["boss-api", "sigs"], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule { name: "boss-db", may: &["boss-model", "boss-api", "sigs"], never: &["axum", "reqwest"] },
    Rule { name: "boss-verify", may: &["sigs"], never: &["imagezip", "tokio", "reqwest", "axum", "sqlx"] },
    Rule { name: "web", may: &["boss-api", "boss-model"], never: &["tokio", "reqwest", "axum", "sqlx"] },
    Rule {
        name: "boss",
        may: &["boss-db", "boss-model", "boss-api", "boss-verify", "failpoints", "web", "sigs"],
        never: &["imagezip", "client", "reqwest"],
    },
    Rule { name: "client", may: &["imagezip", "boss-api", "failpoints", "sigs"], never: &["axum", "sqlx"] },
    // End to end means from outside: through programs and the HTTP interface. The rules alone are explored from within.
    Rule { name: "ebb-tests", may: &["boss-model", "boss-api", "sigs"], never: &["axum", "sqlx"] },
];
/// The only dependencies of the crate that must not share code with the engine.
const VERIFY_ONLY: [&str; 4] = ["sigs", "sha2", "zstd", "thiserror"];
/// Who may turn the HTTP client on.
const CLIENT_USERS: [&str; 2] = ["client", "ebb-tests"];

/// What the manifests say and what cargo makes of it.
#[derive(Clone, Debug, Default)]
struct Imports {
    /// Each crate of the workspace, what it names as dependencies, and the features it turns on in each.
    named: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Each crate of the workspace, and everything in it when it is built alone, with the features that are on.
    built: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Imports {
    fn read(metadata: &Metadata, root: &Path) -> anyhow::Result<Self> {
        let mut imports = Self::default();
        for package in metadata.workspace_packages() {
            let name = package.name.to_string();
            let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for dependency in &package.dependencies {
                let features = dependency.features.iter().cloned();
                named.entry(dependency.name.clone()).or_default().extend(features);
            }
            imports.built.insert(name.clone(), built(root, &name)?);
            imports.named.insert(name, named);
        }
        Ok(imports)
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let known: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        for name in self.named.keys().filter(|name| !known.contains(name.as_str())) {
            found.push(format!("{name} is in the workspace and has no rule"));
        }
        for rule in &RULES {
            let Some(named) = self.named.get(rule.name) else {
                found.push(format!("{} has a rule and is not in the workspace", rule.name));
                continue;
            };
            let ours = named.keys().filter(|name| known.contains(name.as_str()));
            found.extend(
                ours.filter(|name| !rule.may.contains(&name.as_str()))
                    .map(|name| format!("{} must not import {name}", rule.name)),
            );
            let built = self.built.get(rule.name).into_iter().flatten();
            for (name, features) in built {
                if rule.never.contains(&name.as_str()) {
                    found.push(format!("{} must not contain {name}", rule.name));
                }
                if name == "boss-api" && features.contains("client") && !CLIENT_USERS.contains(&rule.name) {
                    found.push(format!("{} must not turn on the feature client of boss-api", rule.name));
                }
            }
            let asks = named.get("boss-api").is_some_and(|features| features.contains("client"));
            if asks && !CLIENT_USERS.contains(&rule.name) {
                found.push(format!("{} must not ask for the feature client of boss-api", rule.name));
            }
            if rule.name == "boss-verify" {
                let other = named.keys().filter(|name| !VERIFY_ONLY.contains(&name.as_str()));
                found.extend(other.map(|name| format!("boss-verify must not import {name}")));
            }
        }
        found
    }
}

/// What is in a crate when nothing else is built with it: features of others do not blur the picture.
fn built(root: &Path, name: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none"]);
    command.args(["--format", "{p}|{f}", "--package", name]).current_dir(root);
    let text = ebb_tests::tools::output(&mut command)?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (package, features) = line.split_once('|').with_context(|| format!("cargo tree says {line:?}"))?;
        let package = package.split(' ').next().unwrap_or(package);
        let features = features.trim_end_matches(" (*)").split(',').filter(|feature| !feature.is_empty());
        found.entry(package.into()).or_default().extend(features.map(str::to_owned));
    }
    Ok(found)
}

fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is above")?.to_path_buf())
}

fn workspace() -> anyhow::Result<Imports> {
    let root = root()?;
    let options = ["--locked", "--offline"].map(str::to_owned).to_vec();
    // What other systems would need is not here, so cargo is not asked about it.
    let metadata = MetadataCommand::new().current_dir(&root).no_deps().other_options(options).exec()?;
    Imports::read(&metadata, &root)
}

#[test]
fn nobody_imports_what_is_not_allowed() -> anyhow::Result<()> {
    let imports = workspace()?;
    let found = imports.violations();
    ensure!(found.is_empty(), "{}", found.join("\n"));
    // Something was looked at.
    ensure!(imports.built["imagezip"].contains_key("zstd"), "cargo tree shows nothing of imagezip");
    ensure!(imports.built["client"]["boss-api"].contains("client"), "cargo tree shows no features");
    Ok(())
}

#[test]
fn an_invented_wrong_edge_is_found() -> anyhow::Result<()> {
    let imports = workspace()?;
    let wrong = |change: &dyn Fn(&mut Imports), expected: &str| -> anyhow::Result<()> {
        let mut imports = imports.clone();
        change(&mut imports);
        let found = imports.violations();
        ensure!(found.iter().any(|text| text == expected), "{expected:?} is not in {found:?}");
        Ok(())
    };
    let name = |from: &'static str, to: &'static str| {
        move |imports: &mut Imports| {
            imports.named.entry(from.into()).or_default().entry(to.into()).or_default();
        }
    };
    let build = |from: &'static str, to: &'static str| {
        move |imports: &mut Imports| {
            imports.built.entry(from.into()).or_default().entry(to.into()).or_default();
        }
    };
    wrong(&name("boss", "imagezip"), "boss must not import imagezip")?;
    wrong(&name("sigs", "boss-api"), "sigs must not import boss-api")?;
    wrong(&name("client", "ebb-tests"), "client must not import ebb-tests")?;
    wrong(&name("boss-verify", "rayon"), "boss-verify must not import rayon")?;
    wrong(&name("newcomer", "sigs"), "newcomer is in the workspace and has no rule")?;
    wrong(&build("web", "axum"), "web must not contain axum")?;
    wrong(&build("imagezip", "tokio"), "imagezip must not contain tokio")?;
    wrong(&build("boss-model", "sqlx"), "boss-model must not contain sqlx")?;
    let feature = |imports: &mut Imports| {
        let api = imports.built.entry("boss".into()).or_default().entry("boss-api".into()).or_default();
        api.insert("client".into());
    };
    wrong(&feature, "boss must not turn on the feature client of boss-api")?;
    let asked = |imports: &mut Imports| {
        let api = imports.named.entry("web".into()).or_default().entry("boss-api".into()).or_default();
        api.insert("client".into());
    };
    wrong(&asked, "web must not ask for the feature client of boss-api")
}
