//! `partywall init`.

use std::io::Write;
use std::path::{Path, PathBuf};

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::guard::config::DEFAULT_FILE;
use partywall::target::openapi;
use partywall::{probe, starter};

/// The target file that is written.
const TARGET: &str = "partywall-target.toml";

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// A database to mark as one that Partywall may write to; then no file is written.
    #[arg(long, value_name = "URL", conflicts_with_all = ["openapi", "dir"])]
    database: Option<String>,
    /// The service's OpenAPI document, as JSON: its operations are put into the target file.
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// The folder for the files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Begins.
pub async fn run(args: Args) -> Result<ExitCode> {
    if let Some(url) = &args.database {
        println!("{}", probe::mark(url).await?);
        return Ok(ExitCode::Upheld);
    }
    let target = match &args.openapi {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
            let operations = openapi::operations(&text, &path.display().to_string())?;
            starter::target(&beside(path, &args.dir)?, &operations)
        }
        None => starter::target("/openapi.json", &[]),
    };
    let files = [(args.dir.join(TARGET), target), (args.dir.join(DEFAULT_FILE), starter::CONFIG.to_string())];
    // Both or none: what is there already is somebody's.
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        let path = path.display();
        return Err(Error::Usage(format!(
            "{path} is there already; move it away, or choose another folder with --dir"
        )));
    }
    for (path, text) in &files {
        let file = std::fs::File::create_new(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| Error::write(path, e))?;
        println!("wrote {}", path.display());
    }
    println!("next: fill in the target file, then `partywall certify --target {}`", files[0].0.display());
    println!("      `partywall guard DATABASE_URL` needs no file; the configuration is for what it does not find out");
    Ok(ExitCode::Upheld)
}

/// `document` as a target file in `dir` names it.
fn beside(document: &Path, dir: &Path) -> Result<String> {
    let whole = |path: &Path| path.canonicalize().map_err(|e| Error::read(path, e));
    let (document, dir) = (whole(document)?, whole(dir)?);
    let name = document.strip_prefix(&dir).unwrap_or(&document);
    Ok(name.display().to_string())
}
