//! Check the architecture invariants of `docs/architecture.md`, each by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{root, say};

/// The floor each crate stands on; an arrow may only point to the same floor or one below.
const FLOORS: &[(&str, u8)] = &[
    ("og-attest", 0),
    ("og-contracts", 0),
    ("og-light", 0),
    ("og-primitives", 0),
    ("og-receipt", 0),
    ("og-x402", 0),
    ("og-zkml", 0),
    ("og-chain", 1),
    ("og-consensus", 1),
    ("og-infer", 1),
    ("og-meter", 1),
    ("og-pool", 1),
    ("og-prove", 1),
    ("og-blob", 2),
    ("og-client", 2),
    ("og-facilitator", 2),
    ("og-gateway", 2),
    ("og-node", 2),
    ("og-devnet", 3),
    ("og", 4),
    ("og-testkit", 4),
    ("og-e2e", 5),
    ("xtask", 5),
];

/// Services do not link each other, with these exceptions.
const SERVICE_EDGES: &[(&str, &str)] = &[("og-facilitator", "og-blob")];

/// Packages that reach a network, a disk or an executor: not for the deterministic floors.
const EFFECTS: &[&str] = &["axum", "hyper", "jsonrpsee", "reqwest", "rusqlite", "tokio"];

/// Non-test lines a source file may have.
const FILE_LINES_MAX: usize = 900;

/// Path segments that say nothing about what a module means.
const NAMELESS: &[&str] =
    &["base", "common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Runs every check and reports all the findings at once.
pub(crate) fn check() -> Result<()> {
    let metadata = metadata()?;
    let graph = Graph::read(&metadata)?;
    let mut findings = Vec::new();
    findings.extend(inv_01_arrows_point_down(&graph));
    findings.extend(inv_02_owners_of_engines(&graph));
    findings.extend(inv_03_engines_have_no_effects(&graph));
    findings.extend(inv_04_verifiers_link_no_provers(&graph));
    findings.extend(inv_05_enclave_links_no_chain(&graph));
    findings.extend(inv_06_files_are_rooms()?);
    if findings.is_empty() {
        say("tidy: every invariant holds");
        return Ok(());
    }
    for finding in &findings {
        say(finding);
    }
    bail!("{} findings", findings.len())
}

/// The workspace's crates, their direct normal dependencies, and the closures of those.
struct Graph {
    direct: BTreeMap<String, BTreeSet<String>>,
    closure: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let packages = metadata["packages"].as_array().context("no packages in cargo metadata")?;
        let names: BTreeMap<&str, &str> = packages
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let nodes = metadata["resolve"]["nodes"].as_array().context("no resolved graph")?;
        let edges: BTreeMap<&str, BTreeSet<&str>> = nodes
            .iter()
            .filter_map(|node| Some((node["id"].as_str()?, normal_dependencies(node))))
            .collect();
        let mut direct = BTreeMap::new();
        let mut closure = BTreeMap::new();
        for member in metadata["workspace_members"].as_array().context("no members")? {
            let id = member.as_str().context("a member's id is not text")?;
            let name = names.get(id).context("a member has no name")?;
            let named = |ids: &BTreeSet<&str>| {
                ids.iter().filter_map(|id| names.get(id)).map(|name| (*name).to_owned()).collect()
            };
            direct.insert((*name).to_owned(), edges.get(id).map(&named).unwrap_or_default());
            let mut reached = BTreeSet::new();
            let mut frontier = vec![id];
            while let Some(next) = frontier.pop() {
                for dependency in edges.get(next).into_iter().flatten() {
                    if reached.insert(*dependency) {
                        frontier.push(dependency);
                    }
                }
            }
            closure.insert((*name).to_owned(), named(&reached));
        }
        Ok(Self { direct, closure })
    }

    fn floor(name: &str) -> Option<u8> {
        FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
    }
}

fn normal_dependencies(node: &Value) -> BTreeSet<&str> {
    node["deps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|dependency| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.into_iter().flatten().any(|kind| kind["kind"].is_null())
        })
        .filter_map(|dependency| dependency["pkg"].as_str())
        .collect()
}

fn metadata() -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root()?)
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// INV-01: arrows between rooms point down, and services do not link each other.
fn inv_01_arrows_point_down(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, dependencies) in &graph.direct {
        let Some(from_floor) = Graph::floor(from) else {
            findings.push(format!("INV-01: {from} stands on no floor; add it to FLOORS"));
            continue;
        };
        for to in dependencies {
            let Some(to_floor) = Graph::floor(to) else { continue };
            let sideways = from_floor == 2
                && to_floor == 2
                && !SERVICE_EDGES.contains(&(from.as_str(), to.as_str()));
            if to_floor > from_floor || sideways {
                findings.push(format!("INV-01: {from} may not depend on {to}"));
            }
        }
    }
    findings
}

/// INV-02: only og-chain names revm; only og-consensus and og-node name commonware.
fn inv_02_owners_of_engines(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, dependencies) in &graph.direct {
        for to in dependencies {
            let engine_of_another = (to.starts_with("revm") && from != "og-chain")
                || (to.starts_with("commonware-") && from != "og-consensus" && from != "og-node");
            if engine_of_another {
                findings.push(format!("INV-02: {from} may not name {to}"));
            }
        }
    }
    findings
}

/// INV-03: floors 0 and 1 name no crate that reaches a network, a disk or an executor.
fn inv_03_engines_have_no_effects(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, dependencies) in &graph.direct {
        if Graph::floor(from).is_some_and(|floor| floor <= 1) {
            for to in dependencies.iter().filter(|to| EFFECTS.contains(&to.as_str())) {
                findings.push(format!("INV-03: {from} is deterministic and may not name {to}"));
            }
        }
    }
    findings
}

/// INV-04: what an auditor links holds no chain, prover, service or executor.
fn inv_04_verifiers_link_no_provers(graph: &Graph) -> Vec<String> {
    let foreign = |name: &str| {
        name.starts_with("revm")
            || name.starts_with("commonware-")
            || EFFECTS.contains(&name)
            || Graph::floor(name).is_some_and(|floor| floor > 0)
    };
    let verifiers = ["og-receipt", "og-zkml"];
    verifiers.iter().flat_map(|from| closure_findings(graph, "INV-04", from, foreign)).collect()
}

/// INV-05: the enclave's trusted computing base holds neither chain nor consensus.
fn inv_05_enclave_links_no_chain(graph: &Graph) -> Vec<String> {
    let foreign = |name: &str| {
        name.starts_with("revm")
            || name.starts_with("commonware-")
            || ["og-chain", "og-consensus", "og-node", "og-facilitator", "og-devnet"]
                .contains(&name)
    };
    closure_findings(graph, "INV-05", "og-gateway", foreign)
}

fn closure_findings(
    graph: &Graph,
    id: &str,
    from: &str,
    foreign: impl Fn(&str) -> bool,
) -> Vec<String> {
    let closure = graph.closure.get(from);
    let reached = closure.into_iter().flatten().filter(|name| foreign(name));
    reached.map(|name| format!("{id}: {from} may not link {name}")).collect()
}

/// INV-06: a source file is one room: bounded, with a name that means something.
fn inv_06_files_are_rooms() -> Result<Vec<String>> {
    let root = root()?;
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output()
        .context("cannot start git")?;
    let listed =
        String::from_utf8(output.stdout).context("git printed a path that is not UTF-8")?;
    let mut findings = Vec::new();
    for path in listed.lines().filter(|path| root.join(path).is_file()) {
        for segment in Path::new(path).with_extension("").iter().filter_map(|part| part.to_str()) {
            if NAMELESS.contains(&segment) {
                findings.push(format!("INV-06: {path}: `{segment}` names nothing"));
            }
        }
        let text = std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > FILE_LINES_MAX && !path.contains("/tests/") {
            findings.push(format!("INV-06: {path}: {lines} lines; split it by meaning"));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let direct: BTreeMap<String, BTreeSet<String>> = edges
            .iter()
            .map(|(from, to)| {
                ((*from).to_owned(), to.iter().map(|name| (*name).to_owned()).collect())
            })
            .collect();
        Graph { closure: direct.clone(), direct }
    }

    #[test]
    fn inv_01_refuses_an_arrow_up_and_one_between_services() {
        let graph = graph(&[
            ("og-attest", &["og-chain"]),
            ("og-gateway", &["og-facilitator"]),
            ("og-facilitator", &["og-blob", "og-x402"]),
        ]);
        assert_eq!(
            inv_01_arrows_point_down(&graph),
            [
                "INV-01: og-attest may not depend on og-chain",
                "INV-01: og-gateway may not depend on og-facilitator"
            ]
        );
    }

    #[test]
    fn inv_02_to_05_refuse_foreign_engines() {
        let graph = graph(&[
            ("og-node", &["revm", "commonware-runtime"]),
            ("og-meter", &["tokio"]),
            ("og-receipt", &["og-light", "revm"]),
            ("og-gateway", &["axum", "og-node"]),
        ]);
        assert_eq!(inv_02_owners_of_engines(&graph).len(), 2);
        assert_eq!(inv_03_engines_have_no_effects(&graph).len(), 1);
        assert_eq!(inv_04_verifiers_link_no_provers(&graph).len(), 1);
        assert_eq!(inv_05_enclave_links_no_chain(&graph).len(), 1);
    }
}
