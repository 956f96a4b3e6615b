//! Who may be meant and who may ask: rules against web pages that reach for a server on their reader's machine.
//!
//! A page can make its reader's browser send requests to loopback, and by rebinding its own name to 127.0.0.1 it can
//! read the answers. The browser then still sends the page's name as Host: so only names we know are served. Requests
//! that carry another site's Origin, or that the browser calls cross-site, are refused whatever their Host. An IP
//! address as Host is safe: it cannot be rebound.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri};

use crate::codes::Code;
use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names the server may be called by.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// In lower case, without a final dot.
    names: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(names: &[String]) -> Self {
        Self {
            names: names.iter().map(|name| canonical(name)).collect(),
        }
    }

    /// Whether a request may be answered, by the name it calls us.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let authority = called(uri, headers)?;
        if self.is_ours(authority.host()) {
            return Ok(());
        }
        let host: String = authority.host().chars().take(100).collect();
        Err(Problem::new(
            Code::HostNotAllowed,
            format!("{host:?} is not among the names of this server"),
        ))
    }

    /// Whether a request comes from one of our own pages or from no page at all.
    pub(crate) fn check_origin(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let refuse = |what: &str| {
            Err(Problem::new(
                Code::CrossSite,
                format!("{what} is not this server; other sites may not use the API"),
            ))
        };
        if headers
            .get_all(SEC_FETCH_SITE)
            .iter()
            .any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
        {
            return refuse("the site of the page that made the request");
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or("?");
            let ours = origin_authority(origin)
                .is_some_and(|origin| self.is_own_origin(&origin, uri, headers));
            if !ours {
                let shown: String = origin.chars().take(100).collect();
                return refuse(&format!("the origin {shown:?}"));
            }
        }
        Ok(())
    }

    /// A page of ours: delivered by the very host and port it now calls, or by a name from the configuration, under
    /// which a proxy serves us on a port of its own.
    fn is_own_origin(&self, origin: &Authority, uri: &Uri, headers: &HeaderMap) -> bool {
        let same = called(uri, headers).is_ok_and(|called| {
            canonical(called.host()) == canonical(origin.host())
                && called.port_u16() == origin.port_u16()
        });
        same || self.names.contains(&canonical(origin.host()))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = canonical(host);
        name == "localhost" || is_address(&name) || self.names.contains(&name)
    }
}

/// The one authority a request is for: that of its target if it has one, else the Host header.
fn called(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let bad = |what: &str| Problem::new(Code::BadRequest, format!("the Host header {what}"));
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(bad("is missing")),
        (Some(_), Some(_)) => return Err(bad("is given twice")),
    };
    let host: Authority = host
        .to_str()
        .ok()
        .and_then(|host| host.parse().ok())
        .filter(|host: &Authority| !host.as_str().contains('@'))
        .ok_or_else(|| bad("is malformed"))?;
    match uri.authority() {
        None => Ok(host),
        Some(target) if canonical(target.host()) == canonical(host.host()) => Ok(host),
        Some(_) => Err(bad("differs from the target of the request")),
    }
}

/// The authority of `http://host:port` or `https://host:port`; nothing else is a page's origin.
fn origin_authority(origin: &str) -> Option<Authority> {
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))?;
    rest.parse().ok()
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_address(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    fn host_allowed(host: &str) -> bool {
        Hosts::new(&["Modelog.example".to_owned()])
            .check_host(&Uri::from_static("/"), &headers(&[("host", host)]))
            .is_ok()
    }

    #[test]
    fn only_known_names_are_served() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:7070",
            "[::1]:7070",
            "192.168.0.7:80",
            "localhost",
            "LocalHost.:7070",
            "modelog.example",
            "MODELOG.EXAMPLE.:443",
        ] {
            assert!(host_allowed(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "x@127.0.0.1",
            "0x7f.1",
            "2130706433",
            "127.1",
            "[::1",
            "",
            "modelog.example.evil",
        ] {
            assert!(!host_allowed(host), "{host}");
        }
    }

    #[test]
    fn the_host_is_given_once_and_is_the_target() {
        let hosts = Hosts::new(&[]);
        let ours = headers(&[("host", "localhost")]);
        let check = |uri: &'static str, headers: &HeaderMap| {
            hosts.check_host(&Uri::from_static(uri), headers).is_ok()
        };
        assert!(check("/", &ours));
        assert!(check("http://localhost/", &ours));
        assert!(!check("http://evil.example/", &ours));
        assert!(!check("/", &headers(&[])));
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert!(!check("/", &two));
    }

    #[test]
    fn other_sites_are_refused() {
        let hosts = Hosts::new(&["modelog.example".to_owned()]);
        let allowed = |pairs: &[(&str, &str)]| {
            hosts
                .check_origin(&Uri::from_static("/"), &headers(pairs))
                .is_ok()
        };
        let host = ("host", "localhost:7070");
        assert!(allowed(&[host]));
        assert!(allowed(&[host, ("origin", "http://localhost:7070")]));
        assert!(allowed(&[host, ("origin", "https://modelog.example")]));
        assert!(allowed(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[host, ("sec-fetch-site", "none")]));
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1:7070",
            "http://evil.example",
            "null",
            "file://",
            "http://localhost:7070.evil.example",
        ] {
            assert!(!allowed(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!allowed(&[host, ("sec-fetch-site", "cross-site")]));
    }
}
