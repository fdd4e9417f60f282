//! `partywall schema`.

use partywall::error::{Error, Result, unknown};
use partywall::evidence::Evidence;
use partywall::exit_code::ExitCode;
use partywall::guard::Report as Review;
use partywall::guard::config::Config;
use partywall::mutant::MutantFile;
use partywall::plan::Corpus;
use partywall::target::file::TargetFile;
use partywall::verdict::Report;

const FILES: [&str; 7] = ["target", "report", "mutant", "finding", "corpus", "guard", "config"];

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Which file: target, report, mutant, finding, corpus, guard (its report) or config (`partywall.toml`); without it,
    /// all in one object.
    file: Option<String>,
}

/// Prints.
pub fn run(args: Args) -> Result<ExitCode> {
    let schema = |name: &str| match name {
        "target" => Some(schemars::schema_for!(TargetFile)),
        "report" => Some(schemars::schema_for!(Report)),
        "corpus" => Some(schemars::schema_for!(Corpus)),
        "mutant" => Some(schemars::schema_for!(MutantFile)),
        "guard" => Some(schemars::schema_for!(Review)),
        "config" => Some(schemars::schema_for!(Config)),
        "finding" => Some(schemars::schema_for!(Evidence)),
        _ => None,
    };
    let value = match &args.file {
        Some(name) => serde_json::to_value(schema(name).ok_or_else(|| unknown("file", name, FILES))?),
        None => serde_json::to_value(
            FILES.map(|name| (name, schema(name))).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        ),
    };
    let text = value.and_then(|v| serde_json::to_string_pretty(&v)).map_err(|e| Error::Defect(e.to_string()))?;
    println!("{text}");
    Ok(ExitCode::Upheld)
}
