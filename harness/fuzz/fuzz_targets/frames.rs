//! Whatever comes, and however it is cut: what is passed on is the beginning of what came, in whole messages judged once
//! each, and nothing is kept beyond what is allowed.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/wiretap/frame.rs"]
mod frame;

use frame::{Body, Piece, Reader, Sender};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [whose, capacity, step, stream @ ..] = data else { return };
    let sender = if whose % 2 == 0 { Sender::Client } else { Sender::Server };
    let capacity = 16 + usize::from(*capacity);
    let step = 1 + usize::from(*step);
    let whole = read(sender, capacity, stream, stream.len().max(1));
    // However it is cut, the same is passed on, judged and refused.
    assert_eq!(whole, read(sender, capacity, stream, step));
});

/// What was passed on, how many bytes of bodies were judged, and whether it was refused.
fn read(sender: Sender, capacity: usize, stream: &[u8], step: usize) -> (Vec<u8>, usize, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut reader = Reader::new(sender, capacity);
        let (mut passed, mut judged) = (Vec::new(), 0);
        for chunk in stream.chunks(step) {
            let mut chunk = chunk;
            while !chunk.is_empty() {
                assert!(reader.fill(&mut chunk).await.expect("bytes") > 0, "there is always room");
                let vetted = reader.vet();
                let passable = reader.passable().len();
                passed.extend_from_slice(&reader.passable()[..passable / 2]);
                reader.pass(passable / 2);
                passed.extend_from_slice(reader.passable());
                reader.pass(reader.passable().len());
                while let Some(piece) = reader.next_piece() {
                    judged += judge(piece);
                }
                if vetted.is_err() {
                    assert!(stream.starts_with(&passed));
                    return (passed, judged, true);
                }
                let _ = (reader.end(), reader.is_between_messages());
            }
        }
        assert!(stream.starts_with(&passed) && stream.len() - passed.len() < 5, "all but a part of a header passed");
        (passed, judged, false)
    })
}

fn judge(piece: Piece<'_>) -> usize {
    match piece {
        Piece::Whole(_, body) => {
            let mut rest = Body::new(body);
            while rest.text().is_some() || rest.value().is_some() || rest.int16().is_some() {}
            body.len()
        }
        Piece::Rows(rows) => frame::messages(rows)
            .map(|(_, body, _)| {
                let _ = frame::fields(body).flatten().count();
                body.len()
            })
            .sum(),
        Piece::Part(_, part, _) => part.len(),
    }
}
