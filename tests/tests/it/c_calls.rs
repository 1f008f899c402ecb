//! Which test in tests/c shows which code of which function. What the header promises of a function, in its comment and in the
//! rules at the top of the file, is to be shown; what is shown is to be promised. The table is in docs/TESTING.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::architecture::{files, root};

/// A function of the C library and a code that it returns.
type Call = (String, String);

/// Gives words, no code.
const NO_CODE: &str = "pcclGetErrorString";
/// Codes that no program can bring about, and why.
const NOT_SHOWN: [(&str, &str); 2] = [
    (INTERNAL, "a bug of the library; a planted panic in `pccl-ffi/src/guard.rs` becomes it"),
    ("pcclUpdateTopologyFailed", "not returned by this version, and promised of no function"),
];

const SUCCESS: &str = "pcclSuccess";
const ARGUMENT: &str = "pcclInvalidArgument";
const USAGE: &str = "pcclInvalidUsage";
const INTERNAL: &str = "pcclInternalError";

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn symbols() -> Vec<String> {
    read("include/pccl.symbols").lines().map(str::to_owned).collect()
}

/// Each code that a test checks, with the first test that does.
fn shown() -> BTreeMap<Call, String> {
    let mut shown = BTreeMap::new();
    let symbols = symbols();
    // What programs have in common says least.
    let programs = files(&root(), "tests/c", &["c"]);
    for file in programs.into_iter().chain(files(&root(), "tests/c", &["h"])) {
        let text = read(&file);
        let program = file.rsplit('/').next().unwrap_or(&file);
        for function in &symbols {
            for (at, code) in codes(&text, function) {
                let test = format!("`{}` in `{program}`", enclosing(&text[..at]));
                shown.entry((function.clone(), code)).or_insert(test);
            }
        }
    }
    shown
}

/// What the text checks that this function returns, and where: `OK(f(…))`, `FAILS(f(…), code, …)`, `f(…) == code`,
/// `RETURNED(f, result, code)`, and the programs' own names for one code, or for several.
fn codes(text: &str, function: &str) -> Vec<(usize, String)> {
    const SHORT: [(&str, &[&str]); 4] = [
        ("OK(", &[SUCCESS]),
        ("CHILD(", &[USAGE]),
        ("GONE(", &[ARGUMENT]),
        // Of handles that have ended, and in a forked child.
        ("REFUSED(", &[ARGUMENT, USAGE]),
    ];
    let named = text.match_indices(function).filter_map(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + function.len()..]);
        if before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let codes = match after.strip_prefix(", ").filter(|_| before.ends_with("RETURNED(")) {
            Some(rest) => vec![code_after(rest.split_once(',')?.1)?],
            None => {
                let from = at + function.len();
                after.strip_prefix('(')?;
                match SHORT.iter().find(|(name, _)| before.ends_with(name)) {
                    Some((_, codes)) => codes.iter().map(|code| (*code).to_owned()).collect(),
                    None => {
                        let rest = &text[after_parentheses(text, from + 1)?..];
                        vec![code_after(match before.ends_with("FAILS(") {
                            true => rest.strip_prefix(',')?,
                            false => rest.trim_start().strip_prefix("==")?,
                        })?]
                    }
                }
            }
        };
        Some(codes.into_iter().map(move |code| (at, code)))
    });
    named.flatten().collect()
}

fn code_after(text: &str) -> Option<String> {
    let word = text.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    word.starts_with("pccl").then(|| word.to_owned())
}

/// The place behind the parenthesis that closes the one before `from`. No string of these programs has one.
fn after_parentheses(text: &str, from: usize) -> Option<usize> {
    let mut open = 1;
    for (at, c) in text[from..].char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(from + at + 1);
        }
    }
    None
}

/// The C function in which a text ends.
fn enclosing(text: &str) -> &str {
    let begins = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic()) && line.contains('(');
    let head = text.lines().rfind(begins).unwrap_or_default();
    head.split('(').next().and_then(|head| head.rsplit([' ', '*']).next()).unwrap_or_default()
}

/// The result codes, as the header has them.
fn results(header: &str) -> BTreeSet<&str> {
    let results = header.split("typedef enum pcclResult_t {").nth(1).unwrap().split('}').next().unwrap();
    results.lines().filter_map(|line| line.trim().split_once(" = ")).map(|(name, _)| name).collect()
}

/// A function as the header declares it.
struct Declared {
    parameters: Vec<String>,
    /// In one line.
    comment: String,
}

fn declared(header: &str) -> BTreeMap<String, Declared> {
    let mut declared = BTreeMap::new();
    for (at, _) in header.match_indices("\nPCCL_EXPORT") {
        let comment = &header[header[..at].rfind("/**").unwrap()..at];
        let words = comment.split_whitespace().filter(|word| !["/**", "*", "*/"].contains(word));
        let comment = words.collect::<Vec<_>>().join(" ");
        let (head, rest) = header[at..].split_once('(').unwrap();
        let name = head.rsplit([' ', '*', '\n']).next().unwrap();
        let parameters = rest.split(");").next().unwrap().split(',').map(|p| p.trim().to_owned()).collect();
        declared.insert(name.to_owned(), Declared { parameters, comment });
    }
    declared
}

impl Declared {
    /// By the rules at the top of the header, beside `pcclInternalError`.
    fn by_rule(&self, name: &str) -> BTreeSet<String> {
        let mut codes = BTreeSet::new();
        let any = |test: &dyn Fn(&str) -> bool| self.parameters.iter().any(|p| test(p));
        if any(&|p| p.contains('*')) {
            codes.insert(ARGUMENT);
        }
        let of_operation = |p: &str| p.contains("const struct pcclAsyncReduceOp_t *");
        if any(&|p| p.contains("pcclComm_t *") || of_operation(p)) {
            codes.insert("pcclNotInitialized");
        }
        let is_handle = |p: &str| {
            let kinds = ["pcclComm_t *", "pcclMasterInstance_t *", "pcclConfig_t *"];
            of_operation(p) || kinds.iter().any(|kind| p.contains(kind) && !p.contains("**"))
        };
        if any(&is_handle) && !name.contains("Destroy") {
            codes.insert(USAGE);
        }
        let waits_for_others = ["Phase of", "Operation of"].iter().any(|kind| self.comment.contains(kind))
            && !self.returns_at_once();
        if waits_for_others {
            codes.extend(["pcclMasterConnectionFailed", USAGE]);
        }
        codes.into_iter().map(str::to_owned).collect()
    }

    fn returns_at_once(&self) -> bool {
        self.comment.contains("does not block")
    }

    /// `pcclX: …` and `pcclX also …`.
    fn by_name(&self, results: &BTreeSet<&str>) -> BTreeSet<String> {
        let words: Vec<&str> = self.comment.split(' ').collect();
        let promised = words.iter().enumerate().filter_map(|(at, word)| {
            let also = words.get(at + 1).is_some_and(|next| next.starts_with("also"));
            word.strip_suffix(':').or(also.then_some(*word))
        });
        promised.filter(|code| results.contains(code)).map(str::to_owned).collect()
    }

    /// `codes of f and g`.
    fn as_others(&self) -> Vec<&str> {
        let Some((_, rest)) = self.comment.split_once("odes of ") else { return Vec::new() };
        let mut others = Vec::new();
        for word in rest.split(' ').filter(|word| *word != "and") {
            let name = word.trim_end_matches([',', '.', ';', ':']);
            if !name.starts_with("pccl") {
                break;
            }
            others.push(name);
            if name.len() != word.len() {
                break;
            }
        }
        others
    }
}

/// What the header says that each function may return, success not counted.
fn promised(header: &str) -> BTreeSet<Call> {
    let (declared, results) = (declared(header), results(header));
    let mut promised = BTreeSet::new();
    for name in declared.keys() {
        let mut todo = vec![name.as_str()];
        while let Some(of) = todo.pop() {
            let one = declared
                .get(of)
                .unwrap_or_else(|| panic!("{name} has the codes of {of}, which is not there"));
            let codes = one.by_rule(of).into_iter().chain(one.by_name(&results));
            promised.extend(codes.map(|code| (name.clone(), code)));
            todo.extend(one.as_others());
        }
    }
    promised
}

/// For each function what the header promises, and the first test of each.
pub fn table(header: &str) -> String {
    let (shown, promised) = (shown(), promised(header));
    let mut text = String::from("| function | success | errors |\n| --- | --- | --- |\n");
    for function in symbols() {
        let test = |code: &str| {
            let test = shown.get(&(function.clone(), code.to_owned()));
            test.map_or("nowhere", String::as_str).to_owned()
        };
        let good = if function == NO_CODE { "`words` in `errors.c`".to_owned() } else { test(SUCCESS) };
        let codes = promised.iter().filter(|(name, _)| *name == function).map(|(_, code)| code);
        let bad: Vec<String> = codes.map(|code| format!("{code}: {}", test(code))).collect();
        let bad = if bad.is_empty() { "none".to_owned() } else { bad.join("; ") };
        text += &format!("| `{function}` | {good} | {bad} |\n");
    }
    for (code, why) in NOT_SHOWN {
        text += &format!("| any | | {code}: {why} |\n");
    }
    text
}

#[test]
fn every_function_of_the_c_library_is_seen_to_succeed() {
    let shown = shown();
    for function in symbols().into_iter().filter(|name| name != NO_CODE) {
        assert!(shown.contains_key(&(function.clone(), SUCCESS.to_owned())), "{function}: nowhere");
    }
}

#[test]
fn every_code_that_the_header_promises_is_shown_and_no_other() {
    let promised = promised(&read("include/pccl.h"));
    let shown: BTreeSet<Call> = shown().into_keys().filter(|(_, code)| code != SUCCESS).collect();
    let missing: Vec<&Call> = promised.difference(&shown).collect();
    assert!(missing.is_empty(), "promised, and no program of tests/c checks it: {missing:#?}");
    let unsaid: Vec<&Call> = shown.difference(&promised).collect();
    assert!(unsaid.is_empty(), "checked by a program, and the header does not say it: {unsaid:#?}");
}

#[test]
fn every_code_of_the_c_library_is_brought_about() {
    let header = read("include/pccl.h");
    let codes = results(&header);
    assert_eq!(codes.len(), 14, "{codes:?}");
    let shown = shown();
    for code in codes {
        let by_program = shown.keys().any(|(_, of)| of == code);
        let excused = NOT_SHOWN.iter().any(|(of, _)| *of == code);
        assert!(by_program != excused, "{code}: shown by a program {by_program}, said not to be {excused}");
    }
}

#[test]
fn checks_are_read() {
    let text = "static void *t(int a)\n{\n    OK(f(g(1), 2)); CHECK(f(g(1)) == pcclX && h()); FAILS(f(a,\n b), pcclY, \"w\"); \
                xf(1) == pcclZ; f(2); CHILD(f(3)); RETURNED(f, result, pcclV); REFUSED(f(4));\n";
    let found: Vec<String> = codes(text, "f").into_iter().map(|(_, code)| code).collect();
    assert_eq!(found, [SUCCESS, "pcclX", "pcclY", USAGE, "pcclV", ARGUMENT, USAGE]);
    assert_eq!(enclosing(text), "t");
}

#[test]
fn promises_are_read() {
    let header = "typedef enum pcclResult_t {\n pcclA = 1,\n pcclB = 2,\n pcclC = 3,\n} pcclResult_t;\n\
                  /**\n * Does it. pcclA: why. Not pcclC. pcclB also\n * for that. Codes of pcclG, and\n * no other.\n */\n\
                  PCCL_EXPORT pcclResult_t pcclF(int a);\n/**\n * Phase of the\n * run. pcclC: so.\n */\n\
                  PCCL_EXPORT\npcclResult_t pcclG(const struct pcclComm_t *comm,\n   int *out);\n";
    let of = |name: &str| -> Vec<String> {
        promised(header).into_iter().filter(|(function, _)| function == name).map(|(_, code)| code).collect()
    };
    let rules = [ARGUMENT, USAGE, "pcclMasterConnectionFailed", "pcclNotInitialized"];
    assert_eq!(of("pcclG"), [&["pcclC"][..], &rules].concat());
    assert_eq!(of("pcclF"), [&["pcclA", "pcclB", "pcclC"][..], &rules].concat());
}
