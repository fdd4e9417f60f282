//! The bundled target files fit the service that they describe.

use std::collections::BTreeSet;
use std::path::Path;

use partywall::target::file::TargetFile;

#[test]
fn the_document_lists_every_route_with_an_operation_of_its_own() -> anyhow::Result<()> {
    let (_, document) = partywall_reference::http::routes();
    let json = serde_json::to_string(&document)?;
    let operations = partywall::target::openapi::operations(&json, "the reference's")?;
    let listed: BTreeSet<String> = operations.iter().map(|o| o.id.clone()).collect();
    assert_eq!(listed.len(), operations.len(), "operation ids are unique");
    let black_box = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/targets/reference-blackbox.toml");
    for file in [None, Some(black_box.as_path())] {
        let described: BTreeSet<String> = TargetFile::load(file)?.operation.into_iter().map(|o| o.id).collect();
        assert_eq!(listed, described, "{file:?} describes every operation, and no other");
    }
    Ok(())
}
