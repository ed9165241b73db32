//! `name AS OF 123`: the version travels inside the name, behind a character that no name may have.
//!
//! Must not: understand anything but tokens. sqlparser reads versions in some dialects only, and then not
//! this form; a name with a marker passes through every part of it untouched.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use alluvium_types::LogIndex;

use crate::Error;
use crate::sql::{keyword, parse_index};

/// Separates a name from its version. Dataset names have no control characters.
const MARKER: char = '\u{1}';

/// A table's name and the index it is read at, if the statement says one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionedName {
    /// The name.
    pub(crate) name: String,
    /// The index.
    pub(crate) version: Option<LogIndex>,
}

impl VersionedName {
    /// Returns the one word that carries both.
    pub(crate) fn join(&self) -> String {
        match self.version {
            Some(version) => format!("{}{MARKER}{version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Takes a word apart that [`VersionedName::join`] made, or a plain one.
pub(crate) fn split_version(word: &str) -> VersionedName {
    let marked = word.rsplit_once(MARKER);
    match marked.and_then(|(name, version)| Some((name, parse_index(version)?))) {
        Some((name, version)) => VersionedName { name: name.to_owned(), version: Some(version) },
        None => VersionedName { name: word.to_owned(), version: None },
    }
}

/// Moves every `AS OF index` into the name before it. Spaces and comments go, places stay.
pub(crate) fn mark(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, Error> {
    let mut marked: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let solid = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let mut rest = tokens.into_iter().filter(solid).peekable();
    while let Some(token) = rest.next() {
        refuse_marker(&token)?;
        let of = rest.peek().is_some_and(|next| keyword(next) == Some(Keyword::OF));
        if keyword(&token) != Some(Keyword::AS) || !of || !follows_name(&marked) {
            marked.push(token);
            continue;
        }
        let of = rest.next().expect("it was just seen");
        let version = match rest.peek().map(|next| &next.token) {
            Some(Token::Number(digits, false)) => parse_index(digits),
            // An alias that happens to be called `of` is followed by none of these.
            Some(Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_)) => None,
            _ => {
                marked.extend([token, of]);
                continue;
            }
        };
        let place = token.span.start;
        let version =
            version.ok_or(Error::AsOfNotAnIndex { line: place.line, column: place.column })?;
        rest.next();
        drop_long_form(&mut marked);
        append_version(&mut marked, version);
    }
    Ok(marked)
}

fn refuse_marker(token: &TokenWithSpan) -> Result<(), Error> {
    let start = token.span.start;
    let message = "a name has a control character".to_owned();
    if let Token::Word(word) = &token.token
        && word.value.contains(MARKER)
    {
        return Err(Error::Syntax { message, line: start.line, column: start.column });
    }
    Ok(())
}

fn follows_name(before: &[TokenWithSpan]) -> bool {
    matches!(before.last().map(|token| &token.token), Some(Token::Word(_)))
}

/// `FOR SYSTEM_VERSION AS OF` and `VERSION AS OF` mean the same as `AS OF`.
fn drop_long_form(marked: &mut Vec<TokenWithSpan>) {
    let word = |from_end: usize| {
        let token = marked.len().checked_sub(from_end).and_then(|at| marked.get(at))?;
        let Token::Word(word) = &token.token else { return None };
        Some(word)
    };
    let is = |from_end: usize, expected: &str| {
        let found = word(from_end);
        found.is_some_and(|w| w.quote_style.is_none() && w.value.eq_ignore_ascii_case(expected))
    };
    // After FROM or JOIN it is a table that happens to be called `version`.
    let names_before = word(2).is_some() && !is(2, "FROM") && !is(2, "JOIN");
    let extra = match (is(1, "SYSTEM_VERSION") && is(2, "FOR"), is(1, "VERSION") && names_before) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    marked.truncate(marked.len() - extra);
}

fn append_version(marked: &mut [TokenWithSpan], version: LogIndex) {
    if let Some(TokenWithSpan { token: Token::Word(word), .. }) = marked.last_mut() {
        let name = std::mem::take(&mut word.value);
        word.value = VersionedName { name, version: Some(version) }.join();
        // A keyword may be a name too (`date AS OF 5`); with a version it is nothing else.
        word.keyword = Keyword::NoKeyword;
    }
}
