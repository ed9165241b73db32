//! One Rust file, as the checks see it: its parts, its functions, and which of its lines are tests.
//!
//! It must not judge. Invariant: every line number is within the file and counted from 1.

use crate::lexer::{Masked, mask};

/// A Rust source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) masked: Masked,
    pub(crate) functions: Vec<Function>,
    /// For each line, whether it is part of a test.
    test_lines: Vec<bool>,
}

/// A function with a body or a signature.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    pub(crate) is_test_code: bool,
    /// Carries `#[test]` or a runtime's own test attribute.
    pub(crate) is_test_case: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let masked = mask(text);
        let test_lines = find_test_lines(path, &masked.code);
        let functions = find_functions(&masked.code, &test_lines);
        Self { path: path.to_owned(), text: text.to_owned(), masked, functions, test_lines }
    }

    /// Whether line `line` (from 1) belongs to a test.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    pub(crate) fn lines(&self) -> usize {
        self.test_lines.len()
    }

    pub(crate) fn non_test_lines(&self) -> usize {
        self.test_lines.iter().filter(|is_test| !**is_test).count()
    }

    /// Lines of code outside tests, comments and literals blanked, with their numbers.
    pub(crate) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.masked.code).filter(|(line, _)| !self.is_test_line(*line))
    }

    /// Whether a tool wrote this file: size and style are the tool's.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.starts_with("crates/proto/src/generated")
    }
}

/// Numbers the lines of `text` from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether everything in the file at `path` is a test.
fn is_test_path(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "fuzz"))
}

fn find_test_lines(path: &str, code: &str) -> Vec<bool> {
    let total = code.lines().count();
    if is_test_path(path) || code.contains("#![cfg(test)]") {
        return vec![true; total];
    }
    let mut marks = vec![false; total];
    for marker in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (start, _) in code.match_indices(marker) {
            let first = line_of(code, start);
            let last = line_of(code, item_end(code, start + marker.len()));
            for mark in marks.iter_mut().take(last).skip(first - 1) {
                *mark = true;
            }
        }
    }
    marks
}

fn line_of(code: &str, offset: usize) -> usize {
    let before = code.get(..offset).unwrap_or(code);
    before.matches('\n').count() + 1
}

/// Returns where the item after an attribute ends: its closing brace, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' if curly <= 1 => return offset,
            b'}' => curly -= 1,
            b';' if curly == 0 && round <= 0 => return offset,
            _ => {}
        }
    }
    code.len()
}

fn find_functions(code: &str, test_lines: &[bool]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut line_counter = (0_usize, 1_usize);
    for (start, _) in code.match_indices("fn ") {
        let preceded_by_word = code
            .get(..start)
            .and_then(|before| before.bytes().next_back())
            .is_some_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        if preceded_by_word {
            continue;
        }
        let rest = code.get(start + 3..).unwrap_or_default();
        let length = rest.bytes().take_while(|b| *b == b'_' || b.is_ascii_alphanumeric()).count();
        if length == 0 {
            continue;
        }
        let between = code.get(line_counter.0..start).unwrap_or_default();
        line_counter = (start, line_counter.1 + between.matches('\n').count());
        let line = line_counter.1;
        let end = item_end(code, start);
        let body = code.get(start..end).unwrap_or_default();
        found.push(Function {
            name: rest.get(..length).unwrap_or_default().to_owned(),
            line,
            lines: body.matches('\n').count() + 1,
            is_test_code: test_lines.get(line - 1).copied().unwrap_or(false),
            is_test_case: has_test_attribute(code.get(..start).unwrap_or_default()),
        });
    }
    found
}

/// Whether the attributes right above a function (the text up to its `fn`) make it a test case.
fn has_test_attribute(before: &str) -> bool {
    let (above, own_line) = before.rsplit_once('\n').unwrap_or(("", before));
    let attributes = above.lines().rev().take_while(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with("#[") || line.starts_with(']') || line.starts_with(')')
    });
    attributes.chain([own_line]).any(|line| {
        let line = line.trim();
        line.starts_with("#[test]") || (line.starts_with("#[") && line.contains("::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn a_test_module_ends_at_its_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        let source = Source::new("wal/src/a.rs", text);
        let tests: Vec<bool> = (1..=7).map(|line| source.is_test_line(line)).collect();
        assert_eq!(tests, [false, true, true, true, true, true, false]);
        assert_eq!(source.non_test_lines(), 2);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_one_line_here_and_all_of_it_there() {
        let outside = Source::new("wal/src/a.rs", "#[cfg(test)]\nmod tests;\nfn c() {}\n");
        assert_eq!(outside.non_test_lines(), 1);
        let inside = Source::new("wal/src/a/tests.rs", "fn a() {}\n");
        assert_eq!(inside.non_test_lines(), 0);
    }

    #[test]
    fn functions_know_their_length_and_their_attributes() {
        let text = "fn a(\n  b: [u8; 2],\n) {\n}\n#[test]\nfn c() {}\n#[tokio::test(x = 1)]\n\
                    async fn d() {}\ntrait T { fn e(); }\n";
        let source = Source::new("tests/x.rs", text);
        let seen: Vec<(&str, usize, usize, bool)> = source
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines, f.is_test_case))
            .collect();
        let expected =
            [("a", 1, 4, false), ("c", 6, 1, true), ("d", 8, 1, true), ("e", 9, 1, false)];
        assert_eq!(seen, expected);
    }
}
