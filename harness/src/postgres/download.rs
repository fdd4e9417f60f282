//! Server binaries fetched by postgresql_embedded from its release host.

use std::time::Duration;

use postgresql_embedded::{PostgreSQL, Settings};

use super::Address;

/// Fetching and starting may take so long.
const START: Duration = Duration::from_secs(120);

/// A running server; dropping it stops it and removes its data.
pub(super) struct Server {
    server: PostgreSQL,
}

/// Fetches, unpacks and starts a server.
pub(super) async fn start() -> Result<(Server, Address), String> {
    if nix::unistd::geteuid().is_root() {
        return Err(
            "downloaded binaries cannot be run as root; run partywall as another user, or install PostgreSQL".into()
        );
    }
    let settings = Settings { temporary: true, password: crate::seed::secret(16), ..Settings::default() };
    let mut server = PostgreSQL::new(settings);
    let up = async {
        server.setup().await?;
        server.start().await
    };
    match tokio::time::timeout(START, up).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => return Err(format!("cannot be fetched or started ({e}); is there a network?")),
        Err(_) => return Err(format!("was not fetched and started within {} s", START.as_secs())),
    }
    let settings = server.settings();
    let address = Address::local(settings.port, &settings.username, &settings.password);
    Ok((Server { server }, address))
}

impl Server {
    pub(super) async fn stop(self) {
        // Its folder is temporary either way.
        let _ = self.server.stop().await;
    }
}
