//! Where SQL statements end.
//!
//! It must not understand SQL: only quotes and comments, in which a semicolon ends nothing.

/// Splits a text at its semicolons; returns the whole statements and what is left behind the last.
pub(crate) fn split(text: &str) -> (Vec<String>, String) {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut state = State::Plain;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let (after, takes_two) = state.step(character, next);
        if state == State::Plain && character == ';' {
            push(&mut statements, text.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        state = after;
        if takes_two {
            characters.next();
        }
    }
    (statements, text.get(start..).unwrap_or_default().trim().to_owned())
}

fn push(statements: &mut Vec<String>, text: &str) {
    let text = text.trim();
    if !text.is_empty() {
        statements.push(text.to_owned());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Quoted(char),
    LineComment,
    BlockComment(u32),
}

impl State {
    /// Returns the state behind a character, and whether the one after it belongs to it.
    fn step(self, character: char, next: Option<char>) -> (Self, bool) {
        match (self, character, next) {
            (Self::Plain, '\'' | '"', _) => (Self::Quoted(character), false),
            (Self::Plain, '-', Some('-')) => (Self::LineComment, true),
            (Self::Plain, '/', Some('*')) => (Self::BlockComment(0), true),
            (Self::Quoted(quote), _, _) if quote == character => (Self::Plain, false),
            (Self::LineComment, '\n', _) => (Self::Plain, false),
            (Self::BlockComment(depth), '/', Some('*')) => (Self::BlockComment(depth + 1), true),
            (Self::BlockComment(0), '*', Some('/')) => (Self::Plain, true),
            (Self::BlockComment(depth), '*', Some('/')) => (Self::BlockComment(depth - 1), true),
            (state, ..) => (state, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, statements: &[&str], rest: &str) {
        let (found, left) = split(text);
        assert_eq!(
            (found.as_slice(), left.as_str()),
            (&statements.map_owned()[..], rest),
            "{text:?}"
        );
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|&text| text.to_owned()).collect()
        }
    }

    #[test]
    fn a_semicolon_in_quotes_or_comments_ends_nothing() {
        check("SELECT 1; SELECT 2", &["SELECT 1"], "SELECT 2");
        check("SELECT ';'; ", &["SELECT ';'"], "");
        check("SELECT 'it''s; ok';", &["SELECT 'it''s; ok'"], "");
        check("SELECT \";\" FROM x;", &["SELECT \";\" FROM x"], "");
        check("SELECT 1 -- ;\n;", &["SELECT 1 -- ;"], "");
        check("/* ; /* ; */ ; */ SELECT 1;;", &["/* ; /* ; */ ; */ SELECT 1"], "");
        check("SELECT 'é;航';", &["SELECT 'é;航'"], "");
        check("SELECT 'open; ", &[], "SELECT 'open;");
    }
}
