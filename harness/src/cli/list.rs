//! `partywall list` and `partywall explain`.

use partywall::error::{Error, Result, unknown};
use partywall::exit_code::ExitCode;
use partywall::requirement::{Requirement, catalogue};

/// What was typed.
#[derive(clap::Args)]
pub struct ListArgs {
    /// What goes to standard output.
    #[arg(long, default_value = "human", value_parser = ["human", "json"])]
    format: String,
}

/// What was typed.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// The requirement's ID.
    id: String,
}

/// Lists.
pub fn list(args: ListArgs) -> Result<ExitCode> {
    let all = catalogue()?;
    if args.format == "json" {
        println!("{}", serde_json::to_string_pretty(&all).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        for requirement in all {
            println!("{:24} {}", requirement.id, requirement.sentence);
        }
    }
    Ok(ExitCode::Upheld)
}

/// Explains.
pub fn explain(args: ExplainArgs) -> Result<ExitCode> {
    let all = catalogue()?;
    let Some(requirement) = all.iter().find(|r| r.id == args.id) else {
        return Err(unknown("requirement", &args.id, all.iter().map(|r| r.id.as_str())));
    };
    let Requirement { id, sentence, severity, channels, oracles, control, mutants, source, breadth: _ } = requirement;
    let oracles: Vec<&str> = oracles.iter().map(|o| o.word()).collect();
    println!("{id} ({severity:?})\n\n{sentence}\n");
    println!("control   {control}\noracles   {}\nchannels  {}", oracles.join(", "), channels.join(", "));
    println!(
        "mutants   {}\nsource    {source}",
        if mutants.is_empty() { "none yet".into() } else { mutants.join(", ") }
    );
    Ok(ExitCode::Upheld)
}
