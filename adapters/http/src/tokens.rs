//! Bearer tokens: who may do what.
//!
//! The token file has a line for each token: what it allows, the SHA-256 of the token, and a name for people.
//!
//! ```text
//! ingest       sha256:5e88…  # training cluster
//! ingest,read  sha256:9f86…  # notebooks
//! admin        sha256:2c26…  # operators; may do everything
//! ```
//!
//! The tokens themselves are nowhere: who reads the file cannot use them. A token should have 128 random bits or more
//! (`openssl rand -hex 32`), so an unsalted fast hash gives nothing away. `printf %s "$TOKEN" | sha256sum` hashes one.
//! The file is read once, when the server starts.

use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::codes::Code;
use crate::error::HttpError;
use crate::problem::Problem;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Ingest,
    Read,
    Admin,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Admin];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(0b111);

    pub(crate) fn allows(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// With one more; `admin` brings all.
    fn with(self, scope: Scope) -> Self {
        match scope {
            Scope::Admin => Self::ALL,
            _ => Self(self.0 | 1 << scope as u8),
        }
    }
}

/// The tokens of a token file.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokens: Vec<([u8; 32], Scopes)>,
}

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// It cannot be read, others can write to it, or a line of it is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, HttpError> {
        let failed = |source| HttpError::TokenFile {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            if std::fs::metadata(path).map_err(failed)?.mode() & 0o022 != 0 {
                return Err(HttpError::TokenFileOpen {
                    path: path.to_owned(),
                });
            }
        }
        Self::parse(&text).map_err(|(line, reason)| HttpError::TokenLine {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Lines of a token file; the error has the number of its line.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut tokens = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                tokens.push(parse_line(line).map_err(|reason| (number, reason))?);
            }
        }
        if tokens.is_empty() {
            return Err((
                1,
                "there is no token in it, so nobody could do anything".into(),
            ));
        }
        Ok(Self { tokens })
    }

    /// What the caller may do: nothing without a token.
    ///
    /// # Errors
    /// The token is not one of ours.
    pub(crate) fn scopes(&self, headers: &HeaderMap) -> Result<Scopes, Problem> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            return Ok(Scopes::NONE);
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") && given.next().is_none())
            .map(|(_, token)| token.trim());
        match token.and_then(|token| self.find(token)) {
            Some(scopes) => Ok(scopes),
            None => Err(Problem::new(
                Code::Unauthorized,
                "the Authorization header holds no token known here",
            )),
        }
    }

    /// Compares with every token, taking the same time wherever they differ and whichever it is.
    fn find(&self, token: &str) -> Option<Scopes> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let (mut found, mut any) = (0, Choice::from(0));
        for (known, scopes) in &self.tokens {
            let equal = known.ct_eq(&hash);
            found = u8::conditional_select(&found, &scopes.0, equal);
            any |= equal;
        }
        bool::from(any).then_some(Scopes(found))
    }
}

fn parse_line(line: &str) -> Result<([u8; 32], Scopes), String> {
    let mut words = line.split_whitespace();
    let (Some(scopes), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        return Err("must be `scope[,scope] sha256:HEX`, then a name behind #".into());
    };
    let mut allowed = Scopes::NONE;
    for word in scopes.split(',') {
        let scope = Scope::ALL.into_iter().find(|scope| scope.name() == word);
        allowed = allowed.with(scope.ok_or_else(|| {
            format!("there is no scope {word:?}; there are ingest, read and admin")
        })?);
    }
    let digits = hash
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64)
        .ok_or("the hash must be `sha256:` and 64 hexadecimal digits")?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or("the hash must be `sha256:` and 64 hexadecimal digits")?;
    }
    Ok((bytes, allowed))
}

/// How a token stands in the token file: `sha256:` and the hexadecimal hash.
#[must_use]
pub fn hash_token(token: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(token.as_bytes()) {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_with_their_scopes() {
        let file = format!(
            "# ours\n\ningest,read {}  # notebooks\n  admin\t{} # ops\n",
            hash_token("n"),
            hash_token("o").to_uppercase().replace("SHA256", "sha256"),
        );
        let tokens = Tokens::parse(&file).unwrap();
        let scopes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            tokens.scopes(&headers)
        };
        let notebooks = scopes("Bearer n").unwrap();
        assert!(notebooks.allows(Scope::Ingest) && notebooks.allows(Scope::Read));
        assert!(!notebooks.allows(Scope::Admin));
        assert_eq!(scopes("bearer  o").unwrap(), Scopes::ALL);
        assert_eq!(tokens.scopes(&HeaderMap::new()).unwrap(), Scopes::NONE);
        for wrong in ["Bearer x", "Bearer ", "Basic n", "n", "Bearer n n"] {
            assert!(scopes(wrong).is_err(), "{wrong}");
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer n".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer o".parse().unwrap());
        assert!(tokens.scopes(&twice).is_err());
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, line, reason) in [
            ("", 1, "no token"),
            ("# only a comment", 1, "no token"),
            ("read", 1, "must be `scope"),
            ("\nwrite sha256:00", 2, "no scope \"write\""),
            ("read sha256:00", 1, "64 hexadecimal"),
            (
                &format!("read sha256:{}", "g".repeat(64)),
                1,
                "64 hexadecimal",
            ),
            (&format!("read {}", "0".repeat(64)), 1, "64 hexadecimal"),
            (
                &format!("read sha256:{}", "+1".repeat(32)),
                1,
                "64 hexadecimal",
            ),
        ] {
            let (found, message) = Tokens::parse(text).unwrap_err();
            assert_eq!(found, line, "{text}");
            assert!(message.contains(reason), "{message}");
        }
    }
}
