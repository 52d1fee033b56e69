//! URLs of listeners and members, with etcd's form rules and texts (Go's `net/url` decides the syntax).

use std::net::IpAddr;

use super::values::ValueError;

/// What a URL's scheme asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`: TCP in the clear.
    Http,
    /// `https`: TCP with TLS.
    Https,
    /// `unix`: a socket file in the clear.
    Unix,
    /// `unixs`: a socket file with TLS.
    Unixs,
}

impl Scheme {
    /// True for schemes that name a socket file.
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }

    /// True for schemes that need TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// The scheme as written.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// One URL of a list. For `http` and `https` it has the form `host:port` and no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// What it asks for.
    pub scheme: Scheme,
    /// `host:port` as written; for socket files the first part of the file's path.
    pub authority: String,
    /// Empty but for socket files.
    pub path: String,
    text: String,
}

impl Url {
    /// The URL as etcd writes it back: as given, the scheme in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, the brackets of an IPv6 address taken off. `None` for a socket file without them.
    pub fn host_port(&self) -> Option<(&str, &str)> {
        split_host_port(&self.authority)
    }

    /// File of a `unix` URL: `unix://name:0` is the file `name:0`, `unix:///run/x` is `/run/x`.
    pub fn socket_path(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// A URL of the same scheme at `host` and `port`.
    pub fn with_host_port(&self, host: &str, port: &str) -> Url {
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let text = format!("{}://{authority}", self.scheme.name());
        Url { scheme: self.scheme, authority, path: String::new(), text }
    }

    /// True when the host is a literal address.
    pub fn has_address(&self) -> bool {
        self.host_port().is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok())
    }
}

/// Parses a comma-separated list, as a sorted list without doubles.
pub fn parse_list(text: &str) -> Result<Vec<Url>, ValueError> {
    let mut urls = text.split(',').map(|piece| parse(piece.trim())).collect::<Result<Vec<Url>, _>>()?;
    urls.sort_by(|left, right| left.text.cmp(&right.text));
    urls.dedup();
    Ok(urls)
}

/// Parses one URL.
pub fn parse(text: &str) -> Result<Url, ValueError> {
    let parts = split(text).map_err(|reason| ValueError(format!("parse {text:?}: {reason}")))?;
    let scheme = match parts.scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "unix" => Scheme::Unix,
        "unixs" => Scheme::Unixs,
        _ => return Err(ValueError(format!("URL scheme must be http, https, unix, or unixs: {text}"))),
    };
    if !scheme.is_unix() {
        if split_host_port(parts.authority).is_none() {
            return Err(ValueError(format!("URL address does not have the form \"host:port\": {text}")));
        }
        if !parts.path.is_empty() {
            return Err(ValueError(format!("URL must not contain a path: {text}")));
        }
    }
    Ok(Url {
        scheme,
        authority: parts.authority.to_owned(),
        path: parts.path.to_owned(),
        text: format!("{}{}", scheme.name(), &text[parts.scheme.len()..]),
    })
}

struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

/// Takes a URL apart; the error is Go's reason.
fn split(text: &str) -> Result<Parts<'_>, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let scheme = scheme_of(text)?;
    let rest = if scheme.is_empty() { text } else { &text[scheme.len() + 1..] };
    let rest = rest.split('#').next().unwrap_or_default();
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        if scheme.is_empty() && rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        if scheme.is_empty() {
            check_escapes(rest)?;
        }
        return Ok(Parts { scheme, authority: "", path: "" });
    }
    let Some(after) = rest.strip_prefix("//") else {
        check_escapes(rest)?;
        return Ok(Parts { scheme, authority: "", path: rest });
    };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let authority = authority.rsplit('@').next().unwrap_or_default();
    check_authority(authority)?;
    check_escapes(path)?;
    Ok(Parts { scheme, authority, path })
}

/// The scheme, empty when there is none.
fn scheme_of(text: &str) -> Result<&str, String> {
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if position > 0 => {}
            b':' if position == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok(&text[..position]),
            _ => return Ok(""),
        }
    }
    Ok("")
}

fn check_authority(authority: &str) -> Result<(), String> {
    let port_from = if authority.starts_with('[') {
        authority.rfind(']').ok_or("missing ']' in host")? + 1
    } else {
        authority.rfind(':').unwrap_or(authority.len())
    };
    let port = &authority[port_from..];
    let valid =
        port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !valid {
        return Err(format!("invalid port {port:?} after host"));
    }
    match authority.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '}' | '|'))
    {
        Some(character) => Err(format!("invalid character {:?} in host name", character.to_string())),
        None => check_escapes(authority),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for position in (0..bytes.len()).filter(|&position| bytes[position] == b'%') {
        let end = (position + 3).min(bytes.len());
        let escape = &bytes[position..end];
        if escape.len() < 3 || !escape[1..].iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(escape)));
        }
    }
    Ok(())
}

/// Go's `net.SplitHostPort`: a port is needed, an IPv6 address needs brackets.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':')?;
        return (!port.contains(':') && !host.contains('[')).then_some((host, port));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of a real etcd 3.5.1 for the same arguments; socket files are as free as in 3.6.
    #[test]
    fn refused_forms() {
        let table = [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://127.0.0.1:1", "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1"),
            ("http://127.0.0.1", "URL address does not have the form \"host:port\": http://127.0.0.1"),
            ("http://", "URL address does not have the form \"host:port\": http://"),
            ("http:///x", "URL address does not have the form \"host:port\": http:///x"),
            ("http://::1:2379", "URL address does not have the form \"host:port\": http://::1:2379"),
            ("http://127.0.0.1:1/foo", "URL must not contain a path: http://127.0.0.1:1/foo"),
            ("http://127.0.0.1:1/", "URL must not contain a path: http://127.0.0.1:1/"),
            ("127.0.0.1:1", "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon"),
            ("http://127.0.0.1:x", "parse \"http://127.0.0.1:x\": invalid port \":x\" after host"),
            ("http://a b:1", "parse \"http://a b:1\": invalid character \" \" in host name"),
            ("%zz", "parse \"%zz\": invalid URL escape \"%zz\""),
            (":1", "parse \":1\": missing protocol scheme"),
            ("http://[::1:2379", "parse \"http://[::1:2379\": missing ']' in host"),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap_err().0, expected, "{text:?}");
        }
    }

    #[test]
    fn accepted_forms() {
        let url = parse("HTTP://[::1]:2379").unwrap();
        assert_eq!((url.as_str(), url.host_port()), ("http://[::1]:2379", Some(("::1", "2379"))));
        assert!(url.has_address());
        assert_eq!(parse("unix:///run/x.sock").unwrap().socket_path(), "/run/x.sock");
        assert_eq!(parse("unix:/run/x.sock").unwrap().socket_path(), "/run/x.sock");
        assert!(parse("unix://localhost:m1").unwrap_err().0.contains("invalid port"));
        assert_eq!(parse("unix://localhost:2379").unwrap().socket_path(), "localhost:2379");
        assert!(!parse("https://a.example:1").unwrap().has_address());
    }

    #[test]
    fn lists_are_sorted_and_without_doubles() {
        let urls = parse_list("http://b:1, http://a:1,http://b:1").unwrap();
        let texts: Vec<&str> = urls.iter().map(Url::as_str).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
        assert!(parse_list("http://a:1,").is_err());
    }
}
