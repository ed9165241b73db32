//! Where SQL statements end.
//!
//! It must not understand SQL: only comments and texts, in which a semicolon ends nothing. Invariant: it knows
//! the same of them as the tokenizer of the queries, which reads PostgreSQL's dialect.

use crate::failure::Failure;

/// One statement and where it starts, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a str,
    line: u64,
    column: u64,
}

/// A text at its semicolons.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Statements<'a> {
    /// The statements that end with a semicolon.
    pub(crate) whole: Vec<Statement<'a>>,
    /// What is left behind the last semicolon, unless it is nothing but blanks and comments.
    pub(crate) rest: Option<Statement<'a>>,
}

impl<'a> Statements<'a> {
    /// Returns the statements, whether the last one ends with a semicolon or not.
    pub(crate) fn all(self) -> Vec<Statement<'a>> {
        self.whole.into_iter().chain(self.rest).collect()
    }
}

/// Splits a text at its semicolons. What is only blanks and comments is no statement.
pub(crate) fn split(text: &str) -> Statements<'_> {
    let mut statements = Statements::default();
    let mut place = Place { at: 0, line: 1, column: 1 };
    let (mut start, mut at, mut has_code) = (0, 0, false);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, kind) = piece(rest);
        match kind {
            Kind::Blank => {}
            // What is never closed is for the parser to refuse.
            Kind::Code | Kind::Open => has_code = true,
            Kind::End => {
                if has_code {
                    statements.whole.push(place.statement(text, start..at));
                }
                (start, has_code) = (at + length, false);
            }
        }
        at += length;
    }
    if has_code {
        statements.rest = Some(place.statement(text, start..at));
    }
    statements
}

impl Statement<'_> {
    /// Returns the failure of this statement with its place in the whole text.
    pub(crate) fn placed(&self, failure: Failure) -> Failure {
        let message = PLACED.iter().find_map(|words| self.moved(&failure.message, words));
        Failure { message: message.unwrap_or(failure.message), ..failure }
    }

    fn moved(&self, message: &str, words: &str) -> Option<String> {
        let (line, rest) = number(message.strip_prefix(words)?)?;
        let (column, rest) = number(rest.strip_prefix(COLUMN)?)?;
        let column = if line == 1 { column + self.column - 1 } else { column };
        Some(format!("{words}{}{COLUMN}{column}{rest}", line + self.line - 1))
    }
}

/// How messages begin that name a line and a column of the statement.
const PLACED: [&str; 2] = ["syntax error at line ", "AS OF takes a log index, at line "];
const COLUMN: &str = ", column ";

/// Reads a number that is not zero, which would be no place.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok().filter(|number| 0 < *number)?, rest))
}

/// A place in a text that only moves forward.
struct Place {
    at: usize,
    line: u64,
    column: u64,
}

impl Place {
    /// Moves to a statement and returns it without the blanks around it.
    fn statement<'a>(&mut self, text: &'a str, range: std::ops::Range<usize>) -> Statement<'a> {
        let raw = text.get(range.clone()).expect("pieces end between characters");
        let start = range.start + (raw.len() - raw.trim_start().len());
        for character in text.get(self.at..start).expect("statements are in order").chars() {
            (self.line, self.column) = match character {
                '\n' => (self.line + 1, 1),
                _ => (self.line, self.column + 1),
            };
        }
        self.at = start;
        Statement { text: raw.trim(), line: self.line, column: self.column }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Blanks or a comment.
    Blank,
    Code,
    /// A text or comment that is not closed.
    Open,
    /// A semicolon that ends a statement.
    End,
}

/// Returns the length and the kind of what a text starts with; the text is not empty.
fn piece(text: &str) -> (usize, Kind) {
    let first = text.chars().next().expect("the text is not empty");
    match first {
        ';' => (1, Kind::End),
        '\'' | '"' => quoted(text, 0, first, false),
        '$' => dollar_quoted(text),
        '-' if text.starts_with("--") => (text.find('\n').unwrap_or(text.len()), Kind::Blank),
        '/' if text.starts_with("/*") => block_comment(text),
        _ if is_word(first) => {
            let end = text.find(|c| !is_word(c) && c != '$').unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            match word.eq_ignore_ascii_case("e") && rest.starts_with('\'') {
                true => quoted(text, end, '\'', true),
                false => (end, Kind::Code),
            }
        }
        _ if first.is_whitespace() => (first.len_utf8(), Kind::Blank),
        _ => (first.len_utf8(), Kind::Code),
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A text in quotes whose first one is at `open`. A doubled quote ends one text and starts the next, which
/// comes to the same; a backslash counts only where `escapes` is said.
fn quoted(text: &str, open: usize, quote: char, escapes: bool) -> (usize, Kind) {
    let mut characters = text.char_indices().skip_while(|(at, _)| *at <= open);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return (at + 1, Kind::Code);
        }
        if escapes && character == '\\' {
            characters.next();
        }
    }
    (text.len(), Kind::Open)
}

/// A text between two equal tags, such as `$$` or `$tag$`; a lone dollar is part of a parameter.
fn dollar_quoted(text: &str) -> (usize, Kind) {
    let behind = &text[1..];
    let end = behind.find(|c| !is_word(c)).unwrap_or(behind.len());
    if !behind[end..].starts_with('$') {
        return (1 + end, Kind::Code);
    }
    let (tag, body) = text.split_at(end + 2);
    match body.find(tag) {
        Some(length) => (tag.len() + length + tag.len(), Kind::Code),
        None => (text.len(), Kind::Open),
    }
}

fn block_comment(text: &str) -> (usize, Kind) {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return (at, Kind::Blank);
        }
    }
    (text.len(), Kind::Open)
}

#[cfg(test)]
mod tests {
    use alluvium_types::ErrorKind;

    use super::*;

    fn check(text: &str, statements: &[&str], rest: Option<&str>) {
        let found = split(text);
        let whole: Vec<&str> = found.whole.iter().map(|statement| statement.text).collect();
        let left = found.rest.map(|statement| statement.text);
        assert_eq!((whole.as_slice(), left), (statements, rest), "{text:?}");
    }

    #[test]
    fn a_semicolon_in_quotes_or_comments_ends_nothing() {
        check("SELECT 1; SELECT 2", &["SELECT 1"], Some("SELECT 2"));
        check("SELECT ';'; ", &["SELECT ';'"], None);
        check("SELECT 'it''s; ok';", &["SELECT 'it''s; ok'"], None);
        check("SELECT \";\" FROM x;", &["SELECT \";\" FROM x"], None);
        check("SELECT 1 -- ;\n;", &["SELECT 1 -- ;"], None);
        check("/* ; /* ; */ ; */ SELECT 1;;", &["/* ; /* ; */ ; */ SELECT 1"], None);
        check("SELECT 'é;航';", &["SELECT 'é;航'"], None);
        check("SELECT 'open; ", &[], Some("SELECT 'open;"));
    }

    #[test]
    fn a_semicolon_in_the_other_texts_of_the_dialect_ends_nothing() {
        check(r"SELECT E'a\';b'; x", &[r"SELECT E'a\';b'"], Some("x"));
        check(r"SELECT e'\\'; x", &[r"SELECT e'\\'"], Some("x"));
        check(r"SELECT 'a\'; x", &[r"SELECT 'a\'"], Some("x"));
        check(r"SELECT note'a\'; x", &[r"SELECT note'a\'"], Some("x"));
        check(r"SELECT U&'\00e9;'; x", &[r"SELECT U&'\00e9;'"], Some("x"));
        check("SELECT $$a;'b$$; x", &["SELECT $$a;'b$$"], Some("x"));
        check("SELECT $é$a;$$;$é$; x", &["SELECT $é$a;$$;$é$"], Some("x"));
        check("SELECT $1; x", &["SELECT $1"], Some("x"));
        check("SELECT a$b; c$d; x", &["SELECT a$b", "c$d"], Some("x"));
        check("SELECT $$a;", &[], Some("SELECT $$a;"));
        check("SELECT $", &[], Some("SELECT $"));
    }

    #[test]
    fn comments_alone_are_no_statement_unless_one_is_not_closed() {
        check("-- a\n; /* b */ ; SELECT 1; -- c", &["SELECT 1"], None);
        check("SELECT 1; /* open ; ", &["SELECT 1"], Some("/* open ;"));
        check(" \n ", &[], None);
        check("--", &[], None);
    }

    #[test]
    fn a_failure_names_its_place_in_the_whole_text() {
        let place = |number: usize, message: &str| {
            let text = "SELECT 1;\n\n  SELECT 'é'; SELECT\n3";
            let failure = Failure::of_kind(ErrorKind::InvalidArgument, message.to_owned(), None);
            split(text).all()[number].placed(failure).message
        };
        let same = "syntax error at line 1, column 8: no";
        assert_eq!(place(0, same), same);
        assert_eq!(place(1, same), "syntax error at line 3, column 10: no");
        assert_eq!(place(2, same), "syntax error at line 3, column 22: no");
        assert_eq!(
            place(2, "AS OF takes a log index, at line 2, column 1"),
            "AS OF takes a log index, at line 4, column 1"
        );
        for other in ["line 1, column 1", "syntax error at line 0, column 0: ?"] {
            assert_eq!(place(2, other), other);
        }
    }
}
