//! What a page finds itself behind when it is read through the API: absolute addresses of it, in its headers and in HTML,
//! lead back through the proxy. Pages are rewritten as they stream by, packed ones too. Spawns nothing.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

use super::html::Page;
use crate::body::{self, Body, BoxError, Reply, WireBody};
use crate::call::Call;

/// Where a proxied place is, seen from both sides.
#[derive(Debug, Clone)]
pub struct Links {
    /// Path of the place in the API: `/api/v1/…/proxy`.
    prefix: String,
    /// What the client asked for below it, with a slash at its start.
    rest: String,
    /// Host and port of the place itself, and of the API server as the client names it.
    backend: String,
    client: String,
    method: Method,
}

impl Links {
    pub fn of(call: &Call, backend: &str) -> Self {
        let path = call.uri.path();
        let slash = if path.ends_with('/') && !call.info.tail.ends_with('/') && !call.info.tail.is_empty() {
            "/"
        } else {
            ""
        };
        let rest = format!("/{}{slash}", call.info.tail);
        let prefix = path.strip_suffix(&rest).unwrap_or(path).trim_end_matches('/').to_owned();
        let authority = || call.uri.authority().map(|a| a.as_str());
        let client =
            Some(call.header("host")).filter(|h| !h.is_empty()).or_else(authority).unwrap_or(backend);
        let (backend, client) = (backend.to_owned(), client.to_owned());
        Self { prefix, rest, backend, client, method: call.method.clone() }
    }

    /// Path and query of the request to the place.
    pub fn path(&self, call: &Call) -> String {
        let query = call.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        format!("{}{query}", self.rest)
    }

    /// The host that the client named; the place hears it too.
    pub fn host(&self) -> &str {
        &self.client
    }

    /// Tells the place how it was asked for.
    pub fn announce(&self, headers: &mut HeaderMap) {
        if let Ok(uri) = HeaderValue::from_str(&format!("{}{}", self.prefix, self.rest)) {
            headers.insert("x-forwarded-uri", uri);
        }
    }

    /// An address as the client needs it; `None` when it is right as it is.
    fn address(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let (origin, path) = split(raw);
        let host = origin.map(|o| o.host);
        if !path.starts_with(b"/")
            || host.is_some_and(|h| h != self.backend.as_bytes() && h != self.client.as_bytes())
        {
            return None;
        }
        let kept = origin.filter(|o| o.host == self.client.as_bytes()).map_or(&b""[..], |o| o.whole);
        let prefix = if path.starts_with(self.prefix.as_bytes()) { &b""[..] } else { self.prefix.as_bytes() };
        let new = [kept, prefix, path].concat();
        (new != raw).then_some(new)
    }

    /// The place's answer as the client gets it.
    pub fn apply(self, mut reply: Reply) -> Reply {
        for name in [
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
        ] {
            reply.headers_mut().remove(name);
        }
        if let Some(to) = reply.headers().get(header::LOCATION) {
            if let Some(to) = self.address(to.as_bytes()).and_then(|to| HeaderValue::from_bytes(&to).ok()) {
                reply.headers_mut().insert(header::LOCATION, to);
            }
            return reply;
        }
        let text = |name| reply.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
        // A part of a page can't be told from text that looks like one.
        if !kind.eq_ignore_ascii_case("text/html") || reply.status() == StatusCode::PARTIAL_CONTENT {
            return reply;
        }
        let coding = text(header::CONTENT_ENCODING).to_owned();
        let bodiless = self.method == Method::HEAD
            || matches!(reply.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let page = Page::new(Box::new(move |a: &[u8]| self.address(a)) as Rewrite);
        let Some(filter) = filter(page, &coding) else {
            tracing::debug!(
                coding,
                "links in a proxied page are left alone: its content coding is not known"
            );
            return reply;
        };
        // Its length would be another.
        reply.headers_mut().remove(header::CONTENT_LENGTH);
        if bodiless {
            return reply;
        }
        let (parts, body) = body::encode(reply, false).into_parts();
        Reply::from_parts(parts, Body::Stream(through(body, filter)))
    }
}

/// Scheme and host of an address.
#[derive(Clone, Copy)]
struct Origin<'a> {
    whole: &'a [u8],
    host: &'a [u8],
}

/// An address cut before its path; what has a scheme and no host (`mailto:`) has no path either.
fn split(raw: &[u8]) -> (Option<Origin<'_>>, &[u8]) {
    let scheme = raw.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b)));
    let behind = match scheme {
        Some(n) if n > 0 && raw.get(n) == Some(&b':') => n + 1,
        _ => 0,
    };
    let Some(authority) = raw.get(behind..).and_then(|r| r.strip_prefix(b"//")) else {
        return (None, if behind == 0 { raw } else { b"" });
    };
    let end = authority.iter().position(|b| b"/?#".contains(b)).unwrap_or(authority.len());
    let (host, path) = authority.split_at(end);
    let whole = raw.get(..behind + 2 + end).unwrap_or_default();
    (Some(Origin { whole, host }), path)
}

type Rewrite = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>> + Send>;

/// A page on its way into `to`.
struct Rewriting<W> {
    page: Page<Rewrite>,
    buffer: Vec<u8>,
    to: W,
}

impl<W: Write> Rewriting<W> {
    fn new(page: Page<Rewrite>, to: W) -> Self {
        Self { page, buffer: Vec::new(), to }
    }
    fn end(mut self) -> io::Result<W> {
        self.buffer.clear();
        self.page.finish(&mut self.buffer);
        self.to.write_all(&self.buffer)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Rewriting<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.clear();
        self.page.push(data, &mut self.buffer);
        self.to.write_all(&self.buffer)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A body in one content coding: bytes in, bytes out.
trait Filter: Send {
    fn push(&mut self, data: &[u8]) -> io::Result<Vec<u8>>;
    fn end(self: Box<Self>) -> io::Result<Vec<u8>>;
}

impl Filter for Rewriting<Vec<u8>> {
    fn push(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.write_all(data)?;
        Ok(std::mem::take(&mut self.to))
    }
    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        Rewriting::end(*self)
    }
}

impl Filter for MultiGzDecoder<Rewriting<GzEncoder<Vec<u8>>>> {
    fn push(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.write_all(data)?;
        Ok(std::mem::take(self.get_mut().to.get_mut()))
    }
    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        self.finish()?.end()?.finish()
    }
}

impl Filter for DeflateDecoder<Rewriting<DeflateEncoder<Vec<u8>>>> {
    fn push(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.write_all(data)?;
        Ok(std::mem::take(self.get_mut().to.get_mut()))
    }
    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        self.finish()?.end()?.finish()
    }
}

fn filter(page: Page<Rewrite>, coding: &str) -> Option<Box<dyn Filter>> {
    Some(match coding {
        "" => Box::new(Rewriting::new(page, Vec::new())),
        "gzip" => {
            let to = GzEncoder::new(Vec::new(), Compression::default());
            Box::new(MultiGzDecoder::new(Rewriting::new(page, to)))
        }
        "deflate" => {
            let to = DeflateEncoder::new(Vec::new(), Compression::default());
            Box::new(DeflateDecoder::new(Rewriting::new(page, to)))
        }
        _ => return None,
    })
}

fn through(body: WireBody, filter: Box<dyn Filter>) -> WireBody {
    body::stream(futures::stream::unfold(Some((body, filter)), |state| async move {
        let (mut body, mut filter) = state?;
        loop {
            let out = match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => filter.push(&data),
                    Err(_) => continue,
                },
                Some(Err(e)) => return Some((Err(e), None)),
                None => return Some((filter.end().map(Bytes::from).map_err(BoxError::from), None)),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Some((Ok(Bytes::from(out)), Some((body, filter)))),
                Err(e) => return Some((Err(BoxError::from(e)), None)),
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::{DeflateDecoder as Inflate, GzDecoder};
    use std::io::Read;

    const PREFIX: &str = "/api/v1/namespaces/n/pods/p:80/proxy";

    fn links() -> Links {
        Links {
            prefix: PREFIX.into(),
            rest: "/".into(),
            backend: "10.0.0.1:80".into(),
            client: "localhost:8001".into(),
            method: Method::GET,
        }
    }

    #[test]
    fn addresses_lead_back_through_the_proxy() {
        for (raw, want) in [
            ("/x", Some(format!("{PREFIX}/x"))),
            ("/", Some(format!("{PREFIX}/"))),
            ("/x?a=/b&amp;c#/d", Some(format!("{PREFIX}/x?a=/b&amp;c#/d"))),
            ("http://10.0.0.1:80/x", Some(format!("{PREFIX}/x"))),
            ("//10.0.0.1:80/x/", Some(format!("{PREFIX}/x/"))),
            ("https://localhost:8001/x", Some(format!("https://localhost:8001{PREFIX}/x"))),
            // It is there already.
            ("/api/v1/namespaces/n/pods/p:80/proxy/x", None),
            ("https://localhost:8001/api/v1/namespaces/n/pods/p:80/proxy/x", None),
            ("http://10.0.0.1:80/api/v1/namespaces/n/pods/p:80/proxy/x", Some(format!("{PREFIX}/x"))),
            // Somewhere else, or relative.
            ("http://example.com/x", None),
            ("//example.com/x", None),
            ("http://10.0.0.1:81/x", None),
            ("http://10.0.0.1:80", None),
            ("x/y", None),
            ("../x", None),
            ("?a=/b", None),
            ("#a", None),
            ("", None),
            ("mailto:/a", None),
            ("javascript:/a/.exec('b')", None),
            (":/x", None),
        ] {
            let got = links().address(raw.as_bytes()).map(|a| String::from_utf8(a).expect("text"));
            assert_eq!(got, want, "{raw}");
        }
    }

    fn packed(coding: &str, page: &str) -> Vec<u8> {
        match coding {
            "gzip" => {
                let mut z = GzEncoder::new(Vec::new(), Compression::default());
                z.write_all(page.as_bytes()).expect("gzip");
                z.finish().expect("gzip")
            }
            "deflate" => {
                let mut z = DeflateEncoder::new(Vec::new(), Compression::default());
                z.write_all(page.as_bytes()).expect("deflate");
                z.finish().expect("deflate")
            }
            _ => page.as_bytes().to_vec(),
        }
    }

    fn unpacked(coding: &str, bytes: &[u8]) -> String {
        let mut out = String::new();
        match coding {
            "gzip" => GzDecoder::new(bytes).read_to_string(&mut out).expect("gzip"),
            "deflate" => Inflate::new(bytes).read_to_string(&mut out).expect("deflate"),
            _ => (&bytes[..]).read_to_string(&mut out).expect("text"),
        };
        out
    }

    fn reply(headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let pieces: Vec<Result<Bytes, io::Error>> =
            body.chunks(5).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let mut r = Reply::new(Body::Stream(body::stream(futures::stream::iter(pieces))));
        r.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        for (name, value) in headers {
            r.headers_mut().insert(
                header::HeaderName::from_bytes(name.as_bytes()).expect("name"),
                HeaderValue::from_str(value).expect("value"),
            );
        }
        r
    }

    async fn sent(r: Reply) -> (HeaderMap, Result<Vec<u8>, BoxError>) {
        let (parts, body) = body::encode(r, false).into_parts();
        (parts.headers, body.collect().await.map(|b| b.to_bytes().to_vec()))
    }

    #[tokio::test]
    async fn pages_are_rewritten_in_their_coding() {
        for coding in ["", "gzip", "deflate", "br"] {
            let page = "<a href=\"/rewriteme\">test</a>";
            let headers = [
                ("content-type", "text/html; charset=utf-8"),
                ("content-encoding", coding),
                ("access-control-allow-origin", "*"),
            ];
            let headers = if coding.is_empty() { vec![headers[0], headers[2]] } else { headers.to_vec() };
            let (got, body) = sent(links().apply(reply(&headers, packed(coding, page)))).await;
            let text = unpacked(coding, &body.expect("body"));
            let known = coding != "br";
            let want =
                if known { format!("<a href=\"{PREFIX}/rewriteme\">test</a>") } else { page.to_owned() };
            assert_eq!(text, want, "{coding}");
            assert_eq!(got.contains_key("content-length"), !known, "{coding}");
            assert!(!got.contains_key("access-control-allow-origin"));
        }
    }

    #[tokio::test]
    async fn what_is_no_page_stays() {
        let page = "<a href=/x>";
        let plain = reply(&[("content-type", "text/plain")], page.into());
        assert_eq!(sent(links().apply(plain)).await.1.expect("body"), page.as_bytes());
        let moved = reply(&[("content-type", "text/html"), ("location", "/there")], page.into());
        let (headers, body) = sent(links().apply(moved)).await;
        assert_eq!(headers["location"], format!("{PREFIX}/there"));
        assert_eq!(body.expect("body"), page.as_bytes());
        let broken = reply(&[("content-type", "text/html"), ("content-encoding", "gzip")], page.into());
        assert!(sent(links().apply(broken)).await.1.is_err());
    }
}
