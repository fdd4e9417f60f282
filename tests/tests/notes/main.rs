//! A service of one's own, guarded in a test of its own: `service.rs` is the service, `partywall.toml` all that Partywall
//! is told of it.

mod credentials;
mod door;
mod hostile;
mod keys;
mod planting;
mod service;

use partywall::campaign::{Campaign, Ended};
use partywall::target::file::TargetFile;
use service::{Habit, Notes};

async fn certified(notes: Notes) -> partywall::error::Result<Ended> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let service = tokio::spawn(axum::serve(listener, notes.router()).into_future());
    let target = TargetFile::parse(include_str!("partywall.toml"), "partywall.toml")?;
    let campaign = Campaign::against(target).variable("NOTES_URL", &url).max_cases(500);
    let ended = campaign.variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX).run().await;
    service.abort();
    ended
}

const ACME: &str = "acme-5ad1c1b07c0f4f7e";
const GLOBEX: &str = "globex-93be12aa61d84c55";

#[tokio::test]
async fn no_tenant_sees_another_ones_notes() -> partywall::error::Result<()> {
    certified(Notes::new([(ACME, "acme"), (GLOBEX, "globex")])).await?.assert_upheld();
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "read_note answered 200")]
async fn a_note_found_by_its_id_alone_is_caught() {
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]).with(Habit::Leaks);
    certified(notes).await.expect("a run").assert_upheld();
}
