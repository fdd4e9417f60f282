//! Where a list goes on: by a cursor of the answer, by the address of the next page, or by counting rows or pages.

use serde_json::Value;

use super::file::ListShape;

impl ListShape {
    /// Whether a list is told in pages that can be followed.
    pub fn has_pages(&self) -> bool {
        self.next.is_some() || self.offset.is_some() || self.page.is_some()
    }

    /// The query parameter that asks for what follows `answer`, and its value; `pages` and `rows` have been read, those of
    /// the answer included. None at the end.
    pub fn goes_on(&self, answer: &Value, pages: u32, rows: u64) -> Option<(String, String)> {
        if let (Some(next), Some(cursor)) = (&self.next, &self.cursor) {
            let next = match answer.pointer(next)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            return Some((cursor.clone(), from_address(&next, cursor).unwrap_or(next))).filter(|(_, v)| !v.is_empty());
        }
        let last = self.rows(answer)? == 0;
        let total = self.total.as_ref().and_then(|total| answer.pointer(total)?.as_u64());
        if last || total.is_some_and(|total| rows >= total) {
            return None;
        }
        let skipped = self.offset.as_ref().map(|name| (name.clone(), rows.to_string()));
        skipped.or_else(|| self.page.as_ref().map(|name| (name.clone(), (pages + 1).to_string())))
    }

    /// Rows of one page.
    pub fn rows(&self, answer: &Value) -> Option<u64> {
        answer.pointer(&self.items)?.as_array().map(|rows| rows.len() as u64)
    }
}

/// The value of `name` in the query of an address.
fn from_address(text: &str, name: &str) -> Option<String> {
    let (before, query) = text.split_once('?')?;
    let address = before.is_empty() || before.starts_with('/') || before.contains("://");
    let pairs = query.split('&').filter(|_| address).filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
    Some(percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_followed_however_it_goes_on() {
        let shape = |text: &str| toml::from_str::<ListShape>(text).expect(text);
        let cursor = shape("items = '/rows'\nnext = '/next'\ncursor = 'after'");
        let offset = shape("items = '/rows'\ntotal = '/meta/total'\noffset = 'skip'");
        let page = shape("items = ''\npage = 'p'");
        let to = |name: &str, value: &str| Some((name.to_string(), value.to_string()));
        for (shape, answer, pages, rows, on) in [
            (&cursor, json!({ "rows": [1], "next": "abc?x=1" }), 1, 1, to("after", "abc?x=1")),
            (&cursor, json!({ "rows": [1], "next": 7 }), 1, 1, to("after", "7")),
            (&cursor, json!({ "rows": [1], "next": "/rows?limit=2&after=a%3D%3D" }), 1, 1, to("after", "a==")),
            (&cursor, json!({ "rows": [1], "next": "https://x.example/rows?after=b" }), 1, 1, to("after", "b")),
            (&cursor, json!({ "rows": [1], "next": null }), 1, 1, None),
            (&cursor, json!({ "rows": [1], "next": "" }), 1, 1, None),
            (&offset, json!({ "rows": [1, 2], "meta": { "total": 3 } }), 1, 2, to("skip", "2")),
            (&offset, json!({ "rows": [1], "meta": { "total": 3 } }), 2, 3, None),
            (&offset, json!({ "rows": [1] }), 2, 3, to("skip", "3")),
            (&offset, json!({ "rows": [] }), 3, 3, None),
            (&page, json!([1, 2]), 1, 2, to("p", "2")),
            (&page, json!([]), 2, 2, None),
            (&page, json!({ "error": "x" }), 2, 2, None),
        ] {
            assert_eq!(shape.goes_on(&answer, pages, rows), on, "{answer}");
        }
    }
}
