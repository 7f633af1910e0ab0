//! Addresses in a page, found as it streams by: `Page` takes HTML in pieces of any size and hands out the same bytes, with
//! the values of those attributes that hold an address passed through a function. Pure; remembers one tag at most.

/// A longer tag is passed on as it is.
const TAG: usize = 64 * 1024;

/// Which attributes of which elements hold an address.
const ADDRESSES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is text up to their own end tag, whatever it looks like.
const TEXT: [&str; 9] =
    ["iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp"];

/// Where the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Text,
    /// Behind `<`.
    Open,
    /// Behind `<!`, with as many dashes of a comment's start.
    Bang(u8),
    /// Dashes seen of a comment's end.
    Comment(u8),
    /// In `<?…>`, `<!…>` or `</…>`: up to the next `>`.
    Skip,
    /// In a start tag.
    Tag(Inside),
    /// Behind a `<plaintext>`: nothing is markup any more.
    Plain,
}

/// Where in a start tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Name,
    Between,
    Attribute,
    BehindAttribute,
    BeforeValue,
    /// With the quote that ends it; 0 for none.
    Value(u8),
}

#[derive(Debug, Clone, Copy, Default)]
struct Span {
    from: usize,
    to: usize,
}

pub struct Page<F> {
    rewrite: F,
    at: At,
    /// The start tag so far, from its `<`.
    tag: Vec<u8>,
    /// The tag in `tag` is too long to be looked at: what stood before has been handed out.
    long: bool,
    /// The element that a long tag begins, if its content is text.
    long_text: Option<&'static str>,
    name: Span,
    attribute: Span,
    /// Name and value of each attribute that has one.
    attributes: Vec<(Span, Span)>,
    value_from: usize,
    /// The element whose end tag is waited for, and how much of `</name` was seen.
    text: Option<&'static str>,
    seen: usize,
}

impl<F: FnMut(&[u8]) -> Option<Vec<u8>>> Page<F> {
    /// `rewrite` gets a value as it stands in the page, and says what stands there instead.
    pub fn new(rewrite: F) -> Self {
        Self {
            rewrite,
            at: At::Text,
            tag: Vec::new(),
            long: false,
            long_text: None,
            name: Span::default(),
            attribute: Span::default(),
            attributes: Vec::new(),
            value_from: 0,
            text: None,
            seen: 0,
        }
    }

    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &b in piece {
            if let At::Tag(inside) = self.at {
                self.tag.push(b);
                self.at = self.inside(inside, b);
                if !matches!(self.at, At::Tag(_)) {
                    self.hand_out(out);
                } else if self.tag.len() > TAG {
                    self.spill(out);
                }
                continue;
            }
            let before = self.at;
            self.at = self.outside(b);
            match (before, self.at) {
                // The `<` of what may become a start tag is held back.
                (At::Text, At::Open) => {}
                (At::Open, At::Tag(_)) => {
                    self.tag = vec![b'<', b];
                    self.name = Span { from: 1, to: 1 };
                }
                (At::Open, At::Open) => out.push(b'<'),
                (At::Open, _) => out.extend_from_slice(&[b'<', b]),
                _ => out.push(b),
            }
        }
    }

    /// The end of the page: what was held back goes out as it is.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Open {
            out.push(b'<');
        }
        self.at = At::Text;
        out.append(&mut self.tag);
    }

    /// One byte outside of start tags.
    fn outside(&mut self, b: u8) -> At {
        if let (At::Text, Some(name)) = (self.at, self.text) {
            return self.raw(name, b);
        }
        match (self.at, b) {
            (At::Text, b'<') | (At::Open, b'<') => At::Open,
            (At::Open, b'!') => At::Bang(0),
            (At::Open, b'?' | b'/') => At::Skip,
            (At::Open, b) if b.is_ascii_alphabetic() => At::Tag(Inside::Name),
            (At::Open, _) => At::Text,
            (At::Bang(0), b'-') => At::Bang(1),
            // `<!-->` and `<!--->` are whole comments.
            (At::Bang(1), b'-') => At::Comment(2),
            (At::Bang(_) | At::Skip, b'>') => At::Text,
            (At::Bang(_), _) => At::Skip,
            (At::Comment(2), b'>') => At::Text,
            (At::Comment(n), b'-') => At::Comment((n + 1).min(2)),
            // `--!>` ends a comment as well.
            (At::Comment(2), b'!') => At::Comment(2),
            (At::Comment(_), _) => At::Comment(0),
            (other, _) => other,
        }
    }

    /// One byte of an element's text: it ends with `</name` and no more letters.
    fn raw(&mut self, name: &str, b: u8) -> At {
        let want = match self.seen {
            0 => Some(b'<'),
            1 => Some(b'/'),
            n => name.as_bytes().get(n - 2).copied(),
        };
        match want {
            Some(want) if b.to_ascii_lowercase() == want => self.seen += 1,
            None if matches!(b, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' | b'/' | b'>') => {
                (self.seen, self.text) = (0, None);
                return if b == b'>' { At::Text } else { At::Skip };
            }
            _ => self.seen = usize::from(b == b'<'),
        }
        At::Text
    }

    /// One byte of a start tag; it is the last of `tag`.
    fn inside(&mut self, inside: Inside, b: u8) -> At {
        let at = self.tag.len() - 1;
        let space = matches!(b, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r');
        let attribute = |page: &mut Self| {
            page.attribute = Span { from: at, to: at };
            Inside::Attribute
        };
        let next = match inside {
            Inside::Value(0) if space || b == b'>' => {
                self.value(at);
                Inside::Between
            }
            Inside::Value(quote) if quote != 0 && b == quote => {
                self.value(at);
                Inside::Between
            }
            Inside::Value(quote) => Inside::Value(quote),
            Inside::BeforeValue if space => Inside::BeforeValue,
            Inside::BeforeValue if matches!(b, b'"' | b'\'') => {
                self.value_from = at + 1;
                Inside::Value(b)
            }
            Inside::BeforeValue if b == b'>' => Inside::Between,
            Inside::BeforeValue => {
                self.value_from = at;
                Inside::Value(0)
            }
            Inside::Name if space || matches!(b, b'/' | b'>') => {
                self.name.to = at;
                Inside::Between
            }
            Inside::Name => Inside::Name,
            Inside::Attribute if space || matches!(b, b'/' | b'>') => {
                self.attribute.to = at;
                if space { Inside::BehindAttribute } else { Inside::Between }
            }
            Inside::Attribute if b == b'=' && (at > self.attribute.from || self.long) => {
                self.attribute.to = at;
                Inside::BeforeValue
            }
            Inside::Attribute => Inside::Attribute,
            Inside::BehindAttribute if space => Inside::BehindAttribute,
            Inside::BehindAttribute if b == b'=' => Inside::BeforeValue,
            Inside::Between | Inside::BehindAttribute if space || matches!(b, b'/' | b'>') => Inside::Between,
            Inside::Between | Inside::BehindAttribute => attribute(self),
        };
        // Only in a quoted value is a `>` no end.
        if b == b'>' && !matches!(next, Inside::Value(_)) { At::Text } else { At::Tag(next) }
    }

    fn value(&mut self, to: usize) {
        if !self.long {
            self.attributes.push((self.attribute, Span { from: self.value_from, to }));
        }
    }

    /// A tag is whole: it goes out with its addresses rewritten, and says what follows.
    fn hand_out(&mut self, out: &mut Vec<u8>) {
        let (tag, attributes) = (std::mem::take(&mut self.tag), std::mem::take(&mut self.attributes));
        let part = |s: Span| tag.get(s.from..s.to).unwrap_or_default();
        if self.long {
            (self.long, self.text) = (false, self.long_text.take());
            out.extend_from_slice(&tag);
            return;
        }
        let name = part(self.name).to_ascii_lowercase();
        let addresses = ADDRESSES.iter().find(|(n, _)| n.as_bytes() == name).map_or(&[][..], |(_, a)| a);
        let mut done = 0;
        for (attribute, value) in attributes {
            if addresses.iter().any(|a| a.as_bytes().eq_ignore_ascii_case(part(attribute)))
                && let Some(new) = (self.rewrite)(part(value))
            {
                out.extend_from_slice(part(Span { from: done, to: value.from }));
                out.extend_from_slice(&new);
                done = value.to;
            }
        }
        out.extend_from_slice(tag.get(done..).unwrap_or_default());
        self.text = TEXT.into_iter().find(|t| t.as_bytes() == name);
        if name == b"plaintext" {
            self.at = At::Plain;
        }
    }

    /// Too long: what there is of the tag goes out, its attributes are forgotten.
    fn spill(&mut self, out: &mut Vec<u8>) {
        if !self.long {
            let name = self.tag.get(self.name.from..self.name.to).unwrap_or_default();
            self.long_text = TEXT.into_iter().find(|t| t.as_bytes().eq_ignore_ascii_case(name));
            self.long = true;
        }
        out.append(&mut self.tag);
        self.attributes.clear();
        self.attribute = Span::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(html: &str, size: usize) -> String {
        let mut out = Vec::new();
        let mut page = Page::new(|value: &[u8]| value.starts_with(b"/").then(|| [b"/p", value].concat()));
        for piece in html.as_bytes().chunks(size) {
            page.push(piece, &mut out);
        }
        page.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn addresses_are_found_where_they_stand() {
        for (html, want) in [
            (r#"<a href="/x">test</a>"#, r#"<a href="/p/x">test</a>"#),
            ("<a href='/x'>", "<a href='/p/x'>"),
            ("<a href=/x>", "<a href=/p/x>"),
            ("<a href=/x class=y>", "<a href=/p/x class=y>"),
            ("<A\nHREF = \"/x\"\t>", "<A\nHREF = \"/p/x\"\t>"),
            ("<a id=1 href=\"/x\" title='/y'/>", "<a id=1 href=\"/p/x\" title='/y'/>"),
            ("<img src=/a longdesc=\"/b\" alt=/c>", "<img src=/p/a longdesc=\"/p/b\" alt=/c>"),
            ("<form action='/do'><p cite=/x>", "<form action='/p/do'><p cite=/x>"),
            ("<a href=\"x/y\"><a href=\"\">", "<a href=\"x/y\"><a href=\"\">"),
            // A quote inside of an unquoted value is part of it, and `>` inside of a quoted one, too.
            ("<a title=a\"b href=/x>", "<a title=a\"b href=/p/x>"),
            ("<a title=\">\" href=/x><a href=/y>", "<a title=\">\" href=/p/x><a href=/p/y>"),
            ("<a disabled href=/x><a b = c href='/x'>", "<a disabled href=/p/x><a b = c href='/p/x'>"),
            ("<a href><a href=><a =href=/x>", "<a href><a href=><a =href=/x>"),
            // What looks like a tag and is none.
            ("a < b <1 <<a href=/x> </a href=\"/x\">", "a < b <1 <<a href=/p/x> </a href=\"/x\">"),
            ("<!-- <a href=/x> --><a href=/x>", "<!-- <a href=/x> --><a href=/p/x>"),
            ("<!--><a href=/x>", "<!--><a href=/p/x>"),
            ("<!-- - -- a --!><a href=/x>", "<!-- - -- a --!><a href=/p/x>"),
            ("<!doctype html><?x <a><a href=/x>", "<!doctype html><?x <a><a href=/p/x>"),
            (
                "<script src=/s>a='<a href=/x>'</scripty></SCRIPT ><a href=/x>",
                "<script src=/p/s>a='<a href=/x>'</scripty></SCRIPT ><a href=/p/x>",
            ),
            ("<title><a href=/x></title><a href=/x>", "<title><a href=/x></title><a href=/p/x>"),
            ("<style><</style><a href=/x>", "<style><</style><a href=/p/x>"),
            (
                "<plaintext><a href=/x></plaintext><a href=/x>",
                "<plaintext><a href=/x></plaintext><a href=/x>",
            ),
            // Broken off.
            ("<a href=\"/x", "<a href=\"/x"),
            ("text <", "text <"),
            ("<script>", "<script>"),
            ("", ""),
        ] {
            for size in [1, 2, 3, 7, 4096] {
                assert_eq!(page(html, size), want, "{html} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_tag_without_an_end_is_not_held() {
        let mut out = Vec::new();
        let mut page = Page::new(|_: &[u8]| Some(b"no".to_vec()));
        page.push(b"<script src=\"", &mut out);
        for _ in 0..100 {
            page.push(&[b'x'; 4096], &mut out);
            assert!(page.tag.len() <= TAG + 4096 && page.attributes.len() <= 1);
        }
        let (rest, want) =
            ("\" href='/y'><a href=z></script><a href=z>", "\" href='/y'><a href=z></script><a href=no>");
        page.push(rest.as_bytes(), &mut out);
        page.finish(&mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.ends_with(want), "{}", &text[text.len() - 60..]);
        assert_eq!(text.len(), "<script src=\"".len() + 409_600 + want.len());
    }

    proptest::proptest! {
        /// With nothing to rewrite the page is what it was; how it is cut never matters.
        #[test]
        fn bytes_are_kept(text in "[<>!/?='\" \\-abhrefscipt]{0,80}", size in 1usize..20) {
            let mut out = Vec::new();
            let mut same = Page::new(|_: &[u8]| None);
            for piece in text.as_bytes().chunks(size) {
                same.push(piece, &mut out);
            }
            same.finish(&mut out);
            proptest::prop_assert_eq!(&out, text.as_bytes());
            proptest::prop_assert_eq!(page(&text, size), page(&text, 1));
        }
    }
}
