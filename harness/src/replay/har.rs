//! HTTP Archive 1.2, as browsers and proxies export it: the parts that matter here. Fields that are not read may be
//! missing or of any shape; crates for the format refuse what browsers leave out.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Bytes of a file that is read at most.
pub const FILE_MAX: u64 = 256 << 20;

/// The file.
#[derive(Serialize, Deserialize)]
pub struct Har {
    /// Its only member.
    pub log: Log,
}

/// What was recorded.
#[derive(Serialize, Deserialize)]
pub struct Log {
    /// Version of the format.
    #[serde(default)]
    pub version: String,
    /// The exchanges, in order.
    pub entries: Vec<Entry>,
}

/// One exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When the request was sent, RFC 3339.
    #[serde(default)]
    pub started_date_time: String,
    /// What was sent.
    pub request: Request,
    /// What came.
    pub response: Response,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The method.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Headers, in order.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_data: Option<PostData>,
}

/// A request's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostData {
    /// Its media type.
    #[serde(default)]
    pub mime_type: String,
    /// Its text; forms may have none.
    #[serde(default)]
    pub text: String,
}

/// A header.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The status; 0 or less when none came.
    pub status: i64,
    /// The body.
    #[serde(default)]
    pub content: Content,
}

/// An answer's body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Its media type.
    #[serde(default)]
    pub mime_type: String,
    /// Its text, unless it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `base64` where the text is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

/// The entries of the file at `path`.
///
/// # Errors
/// Unreadable, too long, or no HAR; the text says where.
pub fn load(path: &Path) -> Result<Vec<Entry>> {
    let length = std::fs::metadata(path).map_err(|e| Error::read(path, e))?.len();
    let wrong = |why: String| {
        Error::Usage(format!("{} is not a HAR that can be replayed: {why}. Export it anew as HAR 1.2", path.display()))
    };
    if length > FILE_MAX {
        return Err(wrong(format!("it has {length} bytes, and {FILE_MAX} are read at most; record less at a time")));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    // Some exporters begin with a byte order mark.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let har: Har = serde_json::from_slice(text).map_err(|e| wrong(e.to_string()))?;
    Ok(har.log.entries)
}

impl Entry {
    /// What proves its sender: the value of the header of that name, or its cookies.
    pub fn credential(&self, headers: &[String]) -> Option<&str> {
        let named = |name: &str| self.request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        let found = headers.iter().find_map(|name| named(name)).or_else(|| named("cookie"));
        found.map(|header| header.value.as_str()).filter(|value| !value.is_empty())
    }

    /// The answer's body as JSON, if it is that.
    pub fn answer(&self) -> Option<serde_json::Value> {
        use base64::Engine;
        let text = self.response.content.text.as_ref()?;
        match self.response.content.encoding.as_deref() {
            Some("base64") => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
                serde_json::from_slice(&bytes).ok()
            }
            _ => serde_json::from_str(text).ok(),
        }
    }
}
