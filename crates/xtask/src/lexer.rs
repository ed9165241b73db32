//! Splits Rust text into code, comments and string literals, line by line.
//!
//! It is not a parser: it knows just enough of the language that a check never mistakes the inside of a
//! string or a comment for code. Invariant: the code and comment texts have as many lines as the input.

/// The text of one file, taken apart. Bytes that belong to another part are blank.
#[derive(Debug)]
pub(crate) struct Masked {
    /// Code only: comments and the contents of literals are spaces.
    pub(crate) code: String,
    /// Comments only, with their markers.
    pub(crate) comments: String,
    /// String literals with the line they start on, counted from 1.
    pub(crate) strings: Vec<(usize, String)>,
}

/// Takes `text` apart.
pub(crate) fn mask(text: &str) -> Masked {
    let mut scanner = Scanner::new(text);
    while scanner.position < scanner.bytes.len() {
        scanner.step();
    }
    let masked = Masked {
        code: into_text(scanner.code),
        comments: into_text(scanner.comments),
        strings: scanner.strings,
    };
    assert_eq!(masked.code.lines().count(), text.lines().count(), "code kept every line");
    assert_eq!(masked.comments.lines().count(), text.lines().count(), "comments kept every line");
    masked
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    line: usize,
    code: Vec<u8>,
    comments: Vec<u8>,
    strings: Vec<(usize, String)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self {
            bytes,
            position: 0,
            line: 1,
            code: Vec::with_capacity(bytes.len()),
            comments: Vec::with_capacity(bytes.len()),
            strings: Vec::new(),
        }
    }

    fn at(&self, offset: usize) -> u8 {
        self.bytes.get(self.position + offset).copied().unwrap_or(0)
    }

    fn take(&mut self, part: Part) {
        let byte = self.at(0);
        self.position += 1;
        if byte == b'\n' {
            self.line += 1;
            self.code.push(byte);
            self.comments.push(byte);
            return;
        }
        self.code.push(if part == Part::Code { byte } else { b' ' });
        self.comments.push(if part == Part::Comment { byte } else { b' ' });
    }

    fn take_many(&mut self, count: usize, part: Part) {
        for _ in 0..count {
            self.take(part);
        }
    }

    fn step(&mut self) {
        match (self.at(0), self.at(1)) {
            (b'/', b'/') => self.line_comment(),
            (b'/', b'*') => self.block_comment(),
            (b'"', _) => self.string(),
            (b'\'', _) => self.quote(),
            (first, _) if is_word(first) => self.word(),
            _ => self.take(Part::Code),
        }
    }

    fn line_comment(&mut self) {
        while self.position < self.bytes.len() && self.at(0) != b'\n' {
            self.take(Part::Comment);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.position < self.bytes.len() {
            match (self.at(0), self.at(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.take_many(2, Part::Comment);
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.take_many(2, Part::Comment);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.take(Part::Comment),
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        self.take(Part::Code);
        let start = self.position;
        while self.position < self.bytes.len() && self.at(0) != b'"' {
            let escaped = if self.at(0) == b'\\' { 2 } else { 1 };
            let left = self.bytes.len() - self.position;
            self.take_many(escaped.min(left), Part::Literal);
        }
        self.keep_literal(line, start);
        if self.position < self.bytes.len() {
            self.take(Part::Code);
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        let line = self.line;
        self.take_many(hashes + 1, Part::Code);
        let start = self.position;
        while self.position < self.bytes.len() {
            let closes = self.at(0) == b'"' && (1..=hashes).all(|i| self.at(i) == b'#');
            if closes {
                break;
            }
            self.take(Part::Literal);
        }
        self.keep_literal(line, start);
        let left = self.bytes.len() - self.position;
        self.take_many((hashes + 1).min(left), Part::Code);
    }

    fn keep_literal(&mut self, line: usize, start: usize) {
        let content = self.bytes.get(start..self.position).unwrap_or_default();
        self.strings.push((line, String::from_utf8_lossy(content).into_owned()));
    }

    /// A character literal, or the start of a lifetime.
    fn quote(&mut self) {
        if self.at(1) == b'\\' {
            self.take_many(3, Part::Literal);
            while self.position < self.bytes.len() && self.at(0) != b'\'' && self.at(0) != b'\n' {
                self.take(Part::Literal);
            }
            if self.at(0) == b'\'' {
                self.take(Part::Literal);
            }
            return;
        }
        let width = utf8_width(self.at(1));
        if self.at(1 + width) == b'\'' {
            self.take_many(width + 2, Part::Literal);
        } else {
            self.take(Part::Code);
        }
    }

    /// An identifier or number; a prefix such as `br##` belongs to the string after it.
    fn word(&mut self) {
        let start = self.position;
        while is_word(self.at(0)) {
            self.take(Part::Code);
        }
        let word = self.bytes.get(start..self.position).unwrap_or_default();
        if matches!(word, b"r" | b"br" | b"cr") {
            let mut hashes = 0;
            while self.at(hashes) == b'#' {
                hashes += 1;
            }
            if self.at(hashes) == b'"' {
                self.raw_string(hashes);
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn utf8_width(first: u8) -> usize {
    match first {
        0x00..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::mask;

    fn check(text: &str, code: &str, strings: &[&str]) {
        let masked = mask(text);
        assert_eq!(masked.code, code, "code of {text:?}");
        let found: Vec<&str> = masked.strings.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(found, strings, "strings of {text:?}");
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        check("a // fn b\nc", "a        \nc", &[]);
        check("a /* x /* y */ { */ b", "a                   b", &[]);
        check(r#"f("{ \" }")"#, r#"f("      ")"#, &[r#"{ \" }"#]);
        check("g('{', '\\'', 'é')", "g(   ,     ,     )", &[]);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        check("x(r#\"a\"b\"#, 1)", "x(r#\"   \"#, 1)", &["a\"b"]);
        check("let r#type = 1;", "let r#type = 1;", &[]);
    }

    #[test]
    fn lifetimes_stay_code() {
        check("fn a<'x>(b: &'x str) {}", "fn a<'x>(b: &'x str) {}", &[]);
    }

    #[test]
    fn comments_keep_their_lines() {
        let masked = mask("a\n// why\nb");
        assert_eq!(masked.comments, " \n// why\n ");
    }
}
