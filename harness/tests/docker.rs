//! The docker rung for real: a container of a local image, by testcontainers. `tests/docker/` makes daemon and image.

use partywall::postgres::{Options, Postgres, Source};

const IMAGE: &str = "partywall-postgres:15";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_serves_and_is_removed() {
    let options = Options { image: Some(IMAGE.into()), ..Options::default() };
    let started = Postgres::start(&Source::Docker, &options).await;
    let postgres =
        started.expect("a daemon and the image; run tests/docker/dockerd.sh and tests/docker/postgres-image.sh");
    assert_eq!(postgres.rung(), "docker");
    assert!(postgres.is_ours() && postgres.server_version().starts_with("15."), "{}", postgres.server_version());
    postgres.create_database("one").await.expect("a database");
    let mut connection =
        partywall::target::database::connect(&postgres.admin_url_for("one")).await.expect("a connection");
    let answer: i32 = sqlx::query_scalar("SELECT 41 + 1").fetch_one(&mut connection).await.expect("an answer");
    assert_eq!(answer, 42);
    let url = postgres.admin_url();
    drop(connection);
    postgres.stop().await;
    assert!(partywall::target::database::connect(&url).await.is_err(), "the container is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_there_is_named() {
    let options = Options { image: Some("partywall-nothing:1".into()), ..Options::default() };
    let Err(error) = Postgres::start(&Source::Docker, &options).await else { panic!("there is no such image") };
    let text = error.to_string();
    assert!(text.contains("partywall-nothing:1") && text.contains("PARTYWALL_DOCKER_IMAGE"), "{text}");
}
