//! A Rust file as a flat list of tokens with lines: comments and the insides of strings are gone, and so is
//! what is compiled for tests only.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Code,
    Use,
    /// A `use` with any `pub` before it: others see the name here.
    PubUse,
}

/// A path, or one leaf of a `use` tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// From the root of a crate (`crate`, `std`, …) or from a name of this file; `self` and `super` are followed
    /// to where they lead.
    pub segments: Vec<String>,
    pub line: usize,
    pub place: Place,
    /// Begins with `::`, so with a crate whatever this file's names are.
    pub is_absolute: bool,
    /// Spelled with nothing but `crate`, `self` and `super`.
    pub is_bare: bool,
    pub renamed: Option<String>,
}

/// The file's tokens without what is compiled for tests only, or why it is no Rust.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    Ok(without_tests(&all_tokens(text)?))
}

fn all_tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|e| format!("{e}"))?;
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    Ok(flat)
}

/// The modules that this file declares under `#[cfg(test)]`, as paths from the root of the crate.
pub fn test_modules(text: &str, module: &[&str]) -> Vec<Vec<String>> {
    let tokens = all_tokens(text).unwrap_or_default();
    let attribute = |at: &usize| starts_with(&tokens[*at..], CFG_TEST);
    let declared = (0..tokens.len()).filter(attribute).filter_map(|at| {
        let item = &tokens[at + CFG_TEST.len()..end_of_item(&tokens, at + CFG_TEST.len())];
        let keyword =
            item.iter().position(|t| ["mod", "use", "fn", "impl", "{"].contains(&t.text.as_str()))?;
        let name = item.get(keyword + 1).filter(|_| item[keyword].text == "mod")?;
        Some(module.iter().map(ToString::to_string).chain([name.text.clone()]).collect())
    });
    declared.collect()
}

const CFG_TEST: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    let mut joint = false;
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                flat.push(Token { text: open.into(), line });
                flatten(group.stream(), flat);
                flat.push(Token { text: close.into(), line: group.span_close().start().line });
            }
            TokenTree::Literal(_) => flat.push(Token { text: "literal".into(), line }),
            TokenTree::Ident(ident) => {
                flat.push(Token { text: ident.to_string().trim_start_matches("r#").into(), line });
            }
            TokenTree::Punct(punct) => {
                let text = punct.as_char().to_string();
                match flat.last_mut() {
                    // `::`, `->` and `=>` are one token each.
                    Some(last) if joint && ["::", "->", "=>"].contains(&&*format!("{}{text}", last.text)) => {
                        last.text.push_str(&text);
                    }
                    _ => flat.push(Token { text, line }),
                }
                joint = punct.spacing() == Spacing::Joint;
                continue;
            }
        }
        joint = false;
    }
}

fn starts_with(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len() && pattern.iter().zip(tokens).all(|(p, t)| t.text == *p)
}

/// Drops every item under `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts_with(&tokens[at..], CFG_TEST) {
            at = end_of_item(tokens, at + CFG_TEST.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// One past the item that starts at `at`: its closing brace, or its semicolon.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens[at].text == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Every path of the file, use trees spelled out. `module` is where the file stands (`["exec", "engine"]`).
pub fn paths(tokens: &[Token], module: &[&str]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut here: Vec<String> = module.iter().map(ToString::to_string).collect();
    // Inline modules that are open, as the brace depth they were opened at.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push(depth);
                    here.push(tokens[at - 1].text.clone());
                }
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    here.pop();
                }
                depth = depth.saturating_sub(1);
            }
            // `use<'a>` is a bound.
            "use" if !starts_with(&tokens[at + 1..], &["<"]) => {
                let place = if is_public(tokens, at) { Place::PubUse } else { Place::Use };
                at = Tree { tokens, here: &here, place, found: &mut found }.read(at + 1, &[], false);
                continue;
            }
            _ if begins_path(tokens, at) => {
                let is_absolute = at > 0 && tokens[at - 1].text == "::";
                let mut tree = Tree { tokens, here: &here, place: Place::Code, found: &mut found };
                at = tree.read(at, &[], is_absolute);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Names that this file gives to modules and imports: a path that begins with one begins with no crate.
pub fn local_names(tokens: &[Token], paths: &[Path]) -> BTreeSet<String> {
    let declared = tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text.clone());
    let imported = paths.iter().filter(|path| path.place != Place::Code).filter_map(|path| {
        let name = path.renamed.as_ref().or(path.segments.last())?;
        (path.segments.len() > 1 && path.segments[0] != *name).then(|| name.clone())
    });
    declared.chain(imported).collect()
}

fn is_public(tokens: &[Token], at: usize) -> bool {
    let before = &tokens[..at];
    match before.last().map(|t| t.text.as_str()) {
        Some("pub") => true,
        // `pub(crate)`, `pub(in a::b)`
        Some(")") => before
            .iter()
            .rposition(|t| t.text == "(")
            .is_some_and(|open| open > 0 && tokens[open - 1].text == "pub"),
        _ => false,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words after which `::` begins a path instead of going on with one.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "box", "break", "const", "continue", "do", "dyn", "else", "enum", "extern", "fn",
    "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "raw", "ref", "return",
    "static", "struct", "trait", "type", "unsafe", "use", "where", "while", "yield",
];

/// Whether a path of two segments or more begins at this token.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or("", |i| tokens[i].text.as_str());
    let text = tokens[at].text.as_str();
    // A turbofish follows a function, not a module.
    if !is_name(text)
        || KEYWORDS.contains(&text)
        || !starts_with(&tokens[at + 1..], &["::"])
        || starts_with(&tokens[at + 2..], &["<"])
    {
        return false;
    }
    match before(1) {
        "." | "'" => false,
        "$" => text == "crate",
        // `<T as Trait>::Item::f` goes on; `a > ::std::f()` begins: only crates are written small.
        "::" if before(2) == ">" => text.starts_with(char::is_lowercase),
        "::" => !is_name(before(2)) || KEYWORDS.contains(&before(2)),
        _ => true,
    }
}

/// Reads a path or a use tree.
struct Tree<'a> {
    tokens: &'a [Token],
    here: &'a [String],
    place: Place,
    found: &'a mut Vec<Path>,
}

impl Tree<'_> {
    /// Reads from `at`; returns one past what was read.
    fn read(&mut self, mut at: usize, prefix: &[String], mut is_absolute: bool) -> usize {
        let mut segments = prefix.to_vec();
        let line = self.tokens.get(at).map_or(0, |t| t.line);
        if self.place != Place::Code && starts_with(&self.tokens[at..], &["::"]) {
            is_absolute = true;
            at += 1;
        }
        loop {
            match self.tokens.get(at).map(|t| t.text.as_str()) {
                Some("{") => return self.read_group(at + 1, &segments, is_absolute),
                // `a::{self}` is `a`.
                Some("self") if !segments.is_empty() => {}
                // A turbofish is no segment.
                Some("<") | None => break,
                Some(name) => segments.push(name.to_string()),
            }
            at += 1;
            if !starts_with(&self.tokens[at..], &["::"]) {
                break;
            }
            at += 1;
        }
        let mut renamed = None;
        if self.place != Place::Code && starts_with(&self.tokens[at..], &["as"]) {
            renamed = self.tokens.get(at + 1).map(|t| t.text.clone());
            at += 2;
        }
        let is_bare = segments.iter().all(|s| ["crate", "self", "super"].contains(&s.as_str()));
        let segments = self.resolved(&segments);
        self.found.push(Path { segments, line, place: self.place, is_absolute, is_bare, renamed });
        at
    }

    fn read_group(&mut self, mut at: usize, segments: &[String], is_absolute: bool) -> usize {
        while at < self.tokens.len() && self.tokens[at].text != "}" {
            if self.tokens[at].text == "," {
                at += 1;
            } else {
                at = self.read(at, segments, is_absolute);
            }
        }
        at + 1
    }

    fn resolved(&self, spelled: &[String]) -> Vec<String> {
        let climbs = spelled.iter().take_while(|s| ["self", "super"].contains(&s.as_str())).count();
        if climbs == 0 {
            return spelled.to_vec();
        }
        let supers = spelled[..climbs].iter().filter(|s| *s == "super").count();
        let stays = self.here.len().saturating_sub(supers);
        let root = [String::from("crate")];
        root.iter().chain(&self.here[..stays]).chain(&spelled[climbs..]).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str, module: &[&str]) -> Vec<String> {
        let tokens = tokens(text).unwrap();
        paths(&tokens, module).iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_spelled_out() {
        assert_eq!(
            spelled(
                "use crate::{a::{self, B as C}, d::*}; fn f() { crate::e::g::<u8>(std::mem::take(x)) }",
                &["m"]
            ),
            ["crate::a", "crate::a::B", "crate::d::*", "crate::e::g", "std::mem::take"]
        );
    }

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = "// crate::a\n/* crate::b */ const X: &str = \"crate::c\";\n\
                    #[cfg(test)]\nmod tests { use crate::d; }\n#[cfg(test)] use crate::e; use crate::f;";
        assert_eq!(spelled(text, &["m"]), ["crate::f"]);
    }

    #[test]
    fn super_is_followed_to_the_root_and_no_further() {
        assert_eq!(
            spelled("use super::b; use super::super::exec::E;", &["proto", "peer"]),
            ["crate::proto::b", "crate::exec::E"]
        );
        assert_eq!(spelled("use self::super::super::exec::E;", &["proto", "peer"]), ["crate::exec::E"]);
        assert_eq!(
            spelled("mod x { use super::super::super::exec::E; }", &["proto", "peer"]),
            ["crate::exec::E"]
        );
        assert_eq!(spelled("use super::exec::E;", &["proto"]), ["crate::exec::E"]);
    }

    #[test]
    fn a_path_may_begin_after_a_keyword_an_operator_or_a_colon() {
        let text = "fn f(a: ::a::A) -> ::b::B { if x > ::c::c() { return ::d::d(); } y as ::e::E }";
        assert_eq!(spelled(text, &["m"]), ["a::A", "b::B", "c::c", "d::d", "e::E"]);
        let text = "fn f() { <T as a::A>::Item::f(); Vec::<b::B>::new(); g::<u8>(); h.i::<c::C>() }";
        assert_eq!(spelled(text, &["m"]), ["a::A", "b::B", "c::C"]);
    }

    #[test]
    fn only_modules_declared_for_tests_are_test_modules() {
        let text = "#[cfg(test)]\n#[allow(dead_code)] pub(crate) mod a;\nmod b;\n#[cfg(test)] use c;\n\
                    #[cfg(test)] mod tests { mod d; }";
        assert_eq!(test_modules(text, &["m"]), [["m", "a"], ["m", "tests"]]);
    }

    #[test]
    fn a_token_knows_its_line() {
        let tokens = tokens("fn a() {\n\n  unsafe {}\n}").unwrap();
        assert_eq!(tokens.iter().find(|t| t.text == "unsafe").map(|t| t.line), Some(3));
    }
}
