//! A Rust file as a flat list of tokens with lines: comments and the insides of strings are gone, and so is
//! what is compiled for tests only.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path that begins at the root of a crate, as `crate`'s rooms or as `std` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
}

/// The file's tokens, or why it is no Rust.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|e| format!("{e}"))?;
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    Ok(without_tests(&flat))
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
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
            TokenTree::Punct(punct) => flat.push(Token { text: punct.as_char().to_string(), line }),
        }
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
        if starts_with(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = end_of_item(tokens, at + 7);
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

/// Every path that starts at one of `roots` (`crate`, `std`, …), use trees spelled out. `module` is where the
/// file stands (`["exec", "engine"]`), so that `super` is followed to where it leads.
pub fn paths(tokens: &[Token], roots: &[&str], module: &[&str]) -> Vec<Path> {
    let mut found = Vec::new();
    // Inline modules that are open, as the brace depth they were opened at.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        match text {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push(depth);
                }
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
                depth = depth.saturating_sub(1);
            }
            _ if is_continuation(tokens, at) => {}
            _ if roots.contains(&text) && starts_with(&tokens[at + 1..], &[":", ":"]) => {
                at = tree(tokens, at, &[], &mut found);
                continue;
            }
            "super" if roots.contains(&"crate") => {
                let mut supers = 1;
                while starts_with(&tokens[at + 1..], &[":", ":", "super"]) {
                    at += 3;
                    supers += 1;
                }
                let here = module.len() + inline.len();
                if supers >= here && starts_with(&tokens[at + 1..], &[":", ":"]) {
                    let mut climbed = Vec::new();
                    at = tree(tokens, at, &[], &mut climbed);
                    for mut path in climbed {
                        path.segments[0] = "crate".into();
                        found.push(path);
                    }
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether the token follows `::`, and so is not the start of a path.
fn is_continuation(tokens: &[Token], at: usize) -> bool {
    at >= 3
        && tokens[at - 1].text == ":"
        && tokens[at - 2].text == ":"
        && (tokens[at - 3].text.chars().all(|c| c.is_alphanumeric() || c == '_')
            || tokens[at - 3].text == ">")
}

/// Reads one path or use tree from `at`; returns one past it.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        match tokens.get(at).map(|t| t.text.as_str()) {
            Some("{") => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    if tokens[at].text == "," {
                        at += 1;
                    } else {
                        at = tree(tokens, at, &segments, found);
                    }
                }
                return at + 1;
            }
            Some("self") => {}
            Some(name) => segments.push(name.to_string()),
            None => break,
        }
        at += 1;
        if !starts_with(&tokens[at..], &[":", ":"]) {
            break;
        }
        at += 2;
        // A turbofish is no segment.
        if tokens.get(at).is_some_and(|t| t.text == "<") {
            break;
        }
    }
    if starts_with(&tokens[at..], &["as"]) {
        at += 2;
    }
    found.push(Path { segments, line });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str, module: &[&str]) -> Vec<String> {
        let tokens = tokens(text).unwrap();
        paths(&tokens, &["crate", "std"], module).iter().map(|p| p.segments.join("::")).collect()
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
            ["crate::exec::E"]
        );
        assert_eq!(
            spelled("mod x { use super::super::super::exec::E; }", &["proto", "peer"]),
            ["crate::exec::E"]
        );
        assert_eq!(spelled("use super::exec::E;", &["proto"]), ["crate::exec::E"]);
    }

    #[test]
    fn a_token_knows_its_line() {
        let tokens = tokens("fn a() {\n\n  unsafe {}\n}").unwrap();
        assert_eq!(tokens.iter().find(|t| t.text == "unsafe").map(|t| t.line), Some(3));
    }
}
