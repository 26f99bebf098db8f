//! The manifest: what an image declares about itself, as lines of text.
//!
//! The grammar is documented at [`guest::abi::NOTE_NAME`]. Parsing knows nothing
//! of symbols; [`super::file`] resolves the names.

use std::collections::BTreeMap;

/// Which side owns the NMI mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The CPU, through KVM: iretq unmasks.
    Native,
    /// The VMM: the iret hypercall unmasks where its flag says so.
    Pv,
}

impl Mode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Pv => "pv",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One declaration: a keyword, bare words, and `key=value` pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// First word: `scheme`, `scenario`, `stack`, …
    pub keyword: String,
    /// Words without `=` after the keyword.
    pub words: Vec<String>,
    /// `key=value` pairs; quotes are removed.
    pub pairs: BTreeMap<String, String>,
}

/// A line that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An opening quote has no end.
    #[error("manifest line {line}: a quoted value has no closing quote")]
    OpenQuote {
        /// Line number from 1.
        line: usize,
    },
    /// The same key twice.
    #[error("manifest line {line}: {key}= stands twice")]
    DuplicateKey {
        /// Line number from 1.
        line: usize,
        /// The key, as the manifest writes it.
        key: String,
    },
}

/// Splits a manifest into its declarations; comments and blank lines are dropped.
pub fn parse(text: &str) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let mut words = split(raw).ok_or(Error::OpenQuote { line })?.into_iter();
        let Some(keyword) = words.next() else { continue };
        let mut out = Line { keyword, ..Line::default() };
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => {
                    if out.pairs.insert(key.to_owned(), value.to_owned()).is_some() {
                        return Err(Error::DuplicateKey { line, key: key.to_owned() });
                    }
                }
                None => out.words.push(word),
            }
        }
        lines.push(out);
    }
    Ok(lines)
}

/// Splits a line at white space outside quotes, up to a `#` outside quotes.
/// `None` where a quote stays open. NUL counts as white space, since notes are
/// padded with it.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted => break,
            c if !quoted && (c.is_whitespace() || c == '\0') => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_keyword_words_and_pairs() {
        let lines = parse("# about\nabi 1\nscheme naive arg=S summary=\"two words # kept\" # dropped\n\0").unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].keyword.as_str(), &lines[0].words[..]), ("abi", &["1".to_owned()][..]));
        assert_eq!(lines[1].pairs["summary"], "two words # kept");
        assert_eq!(lines[1].pairs["arg"], "S");
    }

    #[test]
    fn an_open_quote_and_a_double_key_are_errors() {
        assert_eq!(parse("a\nb c=\"d"), Err(Error::OpenQuote { line: 2 }));
        assert_eq!(parse("b c=1 c=2"), Err(Error::DuplicateKey { line: 1, key: "c".into() }));
    }
}
