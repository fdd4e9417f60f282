//! A container, through testcontainers.

use std::time::{Duration, Instant};

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::Address;
use crate::target::database::connect;

/// The image, unless told otherwise.
pub(super) const IMAGE: &str = "postgres:17-alpine";

const USER: &str = "postgres";
const START: Duration = Duration::from_secs(90);

/// A running container; dropping it removes it.
pub(super) struct Container {
    container: ContainerAsync<GenericImage>,
}

/// Starts `image`, which takes its superuser's password from `POSTGRES_PASSWORD` as the official one does.
pub(super) async fn start(image: &str) -> Result<(Container, Address), String> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let password = crate::seed::secret(16);
    let request = GenericImage::new(name, tag)
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::seconds(0))
        .with_env_var("POSTGRES_PASSWORD", &password)
        .with_startup_timeout(START);
    let container = request.start().await.map_err(|e| {
        format!("image {image}: {e}. Is a Docker daemon running, and is the image there? PARTYWALL_DOCKER_IMAGE names another")
    })?;
    let port = container.get_host_port_ipv4(5432).await.map_err(|e| e.to_string())?;
    let address = Address::local(port, USER, &password);
    let deadline = Instant::now() + START;
    loop {
        match connect(&address.url("postgres")).await {
            // The official image restarts its server once; what answers twice stays.
            Ok(_) if connect(&address.url("postgres")).await.is_ok() => return Ok((Container { container }, address)),
            Err(e) if Instant::now() > deadline => return Err(format!("the container did not come up: {e}")),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Container {
    pub(super) async fn stop(self) {
        // Best effort: the daemon may be gone, and then so is the container.
        let _ = self.container.rm().await;
    }
}
