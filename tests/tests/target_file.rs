//! The bundled target file fits the service that it describes.

#[test]
fn the_document_lists_every_route_with_an_operation_of_its_own() -> anyhow::Result<()> {
    let (_, document) = partywall_reference::http::routes();
    let json = serde_json::to_string(&document)?;
    let operations = partywall::target::openapi::operations(&json, "the reference's")?;
    let described: std::collections::BTreeSet<String> =
        partywall::target::file::TargetFile::load(None)?.operation.into_iter().map(|o| o.id).collect();
    let listed: std::collections::BTreeSet<String> = operations.iter().map(|o| o.id.clone()).collect();
    assert_eq!(listed.len(), operations.len(), "operation ids are unique");
    assert_eq!(listed, described, "the target file describes every operation, and no other");
    Ok(())
}
