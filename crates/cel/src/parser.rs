//! From tokens to the syntax tree, macros expanded on the way. Nesting is bounded, so that neither parser nor evaluator
//! runs out of stack.

use crate::CompileError;
use crate::ast::{Expr, Fold, FoldKind, Kind};
use crate::lexer::{Token, tokens};
use crate::value::Value;

/// Brackets within brackets.
const NESTING: usize = 60;
/// Depth of the tree.
const DEPTH: usize = 200;
/// Characters of an expression.
const LENGTH: usize = 100_000;

/// Words that no name may be; `true`, `false`, `null` and `in` are words of the language besides.
pub const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
}

type Parsed = Result<Expr, CompileError>;

fn fail<T>(offset: usize, message: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError { offset, message: message.into() })
}

pub fn parse(source: &str) -> Parsed {
    if source.len() > LENGTH {
        return fail(0, format!("expression is longer than {LENGTH} characters"));
    }
    let mut p = Parser { tokens: tokens(source)?, at: 0, nesting: 0 };
    let e = p.expr()?;
    match p.peek() {
        Token::End => Ok(e),
        t => fail(p.offset(), format!("Syntax error: extraneous input {}", show(t))),
    }
}

fn show(t: &Token) -> String {
    match t {
        Token::End => "'<EOF>'".into(),
        Token::Op(o) => format!("'{o}'"),
        Token::Ident(i) | Token::Quoted(i) => format!("'{i}'"),
        Token::Text(s) => format!("'\"{s}\"'"),
        other => format!("'{other:?}'"),
    }
}

fn node(kind: Kind, at: usize) -> Parsed {
    let e = Expr::new(kind, at);
    if e.depth > DEPTH { fail(at, "expression is nested too deeply") } else { Ok(e) }
}

fn call(name: &str, args: Vec<Expr>, at: usize) -> Parsed {
    node(Kind::Call { name: name.into(), target: None, args }, at)
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(t, _)| t)
    }
    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, o)| *o)
    }
    fn next(&mut self) -> Token {
        let t = self.peek().clone();
        self.at += 1;
        t
    }
    fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }
    fn eat(&mut self, op: &str) -> bool {
        let yes = self.is(op);
        self.at += usize::from(yes);
        yes
    }
    fn want(&mut self, op: &str) -> Result<(), CompileError> {
        if self.eat(op) {
            return Ok(());
        }
        fail(self.offset(), format!("Syntax error: mismatched input {} expecting '{op}'", show(self.peek())))
    }

    fn expr(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > NESTING {
            return fail(self.offset(), "expression is nested too deeply");
        }
        let at = self.offset();
        let test = self.logic(false)?;
        let e = if self.eat("?") {
            let then = self.logic(false)?;
            self.want(":")?;
            let other = self.expr()?;
            let (test, then, other) = (Box::new(test), Box::new(then), Box::new(other));
            node(Kind::Conditional { test, then, other }, at)?
        } else {
            test
        };
        self.nesting -= 1;
        Ok(e)
    }

    fn logic(&mut self, and: bool) -> Parsed {
        let at = self.offset();
        let mut terms = Vec::new();
        loop {
            terms.push(if and { self.relation()? } else { self.logic(true)? });
            if !self.eat(if and { "&&" } else { "||" }) {
                break;
            }
        }
        match (terms.len(), terms.pop()) {
            (1, Some(one)) => Ok(one),
            (_, last) => {
                terms.extend(last);
                node(Kind::Logic { and, terms }, at)
            }
        }
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let at = self.offset();
            let name = match self.peek() {
                Token::Op(o @ ("<" | "<=" | ">" | ">=" | "==" | "!=")) => format!("_{o}_"),
                Token::Ident(i) if i == "in" => "@in".to_owned(),
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.sum()?;
            left = call(&name, vec![left, right], at)?;
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let at = self.offset();
            let Token::Op(o @ ("+" | "-")) = *self.peek() else { return Ok(left) };
            self.at += 1;
            let right = self.product()?;
            left = call(&format!("_{o}_"), vec![left, right], at)?;
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let at = self.offset();
            let Token::Op(o @ ("*" | "/" | "%")) = *self.peek() else { return Ok(left) };
            self.at += 1;
            let right = self.unary()?;
            left = call(&format!("_{o}_"), vec![left, right], at)?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.offset();
        let Token::Op(o @ ("!" | "-")) = *self.peek() else { return self.member() };
        let mut n = 0usize;
        while self.eat(o) {
            n += 1;
        }
        if o == "-" && n % 2 == 1 {
            // A negative number is one literal.
            let literal = match self.peek() {
                Token::Int(i) => Some(Value::Int(-i)),
                Token::IntEdge => Some(Value::Int(i64::MIN)),
                Token::Double(d) => Some(Value::Double(-d)),
                _ => None,
            };
            if let Some(v) = literal {
                self.at += 1;
                let e = node(Kind::Literal(v), at)?;
                return self.tail(e);
            }
        }
        let e = self.member()?;
        if n.is_multiple_of(2) { Ok(e) } else { call(&format!("{o}_"), vec![e], at) }
    }

    fn member(&mut self) -> Parsed {
        let e = self.primary()?;
        self.tail(e)
    }

    fn tail(&mut self, mut e: Expr) -> Parsed {
        loop {
            let at = self.offset();
            if self.eat(".") {
                let optional = self.eat("?");
                let field = match self.next() {
                    Token::Ident(i) | Token::Quoted(i) => i,
                    t => {
                        return fail(
                            at + 1,
                            format!("Syntax error: no viable alternative at input {}", show(&t)),
                        );
                    }
                };
                if !optional && self.is("(") {
                    // A call stands where its brackets open.
                    let at = self.offset();
                    let args = self.args()?;
                    e = self.method(e, field, args, at)?;
                } else {
                    e = node(Kind::Select { operand: Box::new(e), field, test: false, optional }, at)?;
                }
            } else if self.eat("[") {
                let optional = self.eat("?");
                let index = self.expr()?;
                self.want("]")?;
                e = node(Kind::Index { operand: Box::new(e), index: Box::new(index), optional }, at)?;
            } else if self.is("{")
                && let Some(name) = e.qualified()
            {
                let fields = self.fields()?;
                e = node(Kind::Message { name, fields }, at)?;
            } else {
                return Ok(e);
            }
        }
    }

    /// The fields of a message, in braces.
    fn fields(&mut self) -> Result<Vec<(String, Expr, bool)>, CompileError> {
        self.want("{")?;
        let mut out = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let at = self.offset();
            let name = match self.next() {
                Token::Ident(i) | Token::Quoted(i) => i,
                t => return fail(at, format!("Syntax error: mismatched input {}", show(&t))),
            };
            self.want(":")?;
            out.push((name, self.expr()?, optional));
            if !self.is("}") {
                self.want(",")?;
            }
        }
        Ok(out)
    }

    fn args(&mut self) -> Result<Vec<Expr>, CompileError> {
        self.want("(")?;
        let mut out = Vec::new();
        if self.eat(")") {
            return Ok(out);
        }
        loop {
            out.push(self.expr()?);
            if self.eat(")") {
                return Ok(out);
            }
            self.want(",")?;
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.offset();
        self.eat(".");
        let kind = match self.next() {
            Token::Ident(i) => match i.as_str() {
                "true" | "false" => Kind::Literal(Value::Bool(i == "true")),
                "null" => Kind::Literal(Value::Null),
                "in" => return fail(at, "Syntax error: mismatched input 'in'"),
                _ if RESERVED.contains(&i.as_str()) => return fail(at, format!("reserved identifier: {i}")),
                _ if self.is("(") => {
                    let at = self.offset();
                    let args = self.args()?;
                    return self.function(i, args, at);
                }
                _ => Kind::Ident(i),
            },
            Token::Int(i) => Kind::Literal(Value::Int(i)),
            Token::Uint(u) => Kind::Literal(Value::Uint(u)),
            Token::Double(d) => Kind::Literal(Value::Double(d)),
            Token::Text(s) => Kind::Literal(Value::from(s)),
            Token::Bytes(b) => Kind::Literal(Value::Bytes(b.into())),
            Token::Op("(") => {
                let e = self.expr()?;
                self.want(")")?;
                return Ok(e);
            }
            Token::Op("[") => {
                let mut items = Vec::new();
                while !self.eat("]") {
                    let optional = self.eat("?");
                    items.push((self.expr()?, optional));
                    if !self.is("]") {
                        self.want(",")?;
                    }
                }
                Kind::List(items)
            }
            Token::Op("{") => {
                let mut entries = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let key = self.expr()?;
                    self.want(":")?;
                    entries.push((key, self.expr()?, optional));
                    if !self.is("}") {
                        self.want(",")?;
                    }
                }
                Kind::Map(entries)
            }
            t => return fail(at, format!("Syntax error: mismatched input {}", show(&t))),
        };
        node(kind, at)
    }

    /// A global call, or the macro `has`.
    fn function(&mut self, name: String, mut args: Vec<Expr>, at: usize) -> Parsed {
        if name == "has" {
            return match (args.len(), args.pop().map(|a| a.kind)) {
                (1, Some(Kind::Select { operand, field, test: false, optional: false })) => {
                    node(Kind::Select { operand, field, test: true, optional: false }, at)
                }
                _ => fail(at, "invalid argument to has() macro"),
            };
        }
        node(Kind::Call { name, target: None, args }, at)
    }

    /// A member call, or one of the macros over lists and maps.
    fn method(&mut self, target: Expr, name: String, args: Vec<Expr>, at: usize) -> Parsed {
        let namespace = matches!(&target.kind, Kind::Ident(n) if n == "cel");
        if namespace && name == "bind" && args.len() == 3 {
            let mut all = args.into_iter();
            let (var, value, body) = (all.next(), all.next(), all.next());
            return match (var.map(|v| v.kind), value, body) {
                (Some(Kind::Ident(name)), Some(value), Some(body)) => {
                    node(Kind::Bind { name, value: Box::new(value), body: Box::new(body) }, target.at)
                }
                _ => fail(at, "cel.bind() variable names must be simple identifiers"),
            };
        }
        if let ("optMap" | "optFlatMap", 2) = (name.as_str(), args.len()) {
            return inside(target, &name, args, at);
        }
        if name == "sortBy" && args.len() == 2 {
            return sorted(target, args, at);
        }
        let kind = match (name.as_str(), args.len()) {
            ("all", 2 | 3) => FoldKind::All,
            ("exists", 2 | 3) => FoldKind::Exists,
            ("exists_one" | "existsOne", 2 | 3) => FoldKind::ExistsOne,
            ("filter", 2) => FoldKind::Filter,
            ("map", 2 | 3) => FoldKind::Map,
            ("transformList", 3 | 4) => FoldKind::TransformList,
            ("transformMap", 3 | 4) => FoldKind::TransformMap,
            ("transformMapEntry", 3 | 4) => FoldKind::TransformMapEntry,
            _ => {
                let target = Some(Box::new(target));
                return node(Kind::Call { name, target, args }, at);
            }
        };
        fold(kind, target, args, at)
    }
}

/// A macro over a list or a map, from its arguments.
fn fold(kind: FoldKind, range: Expr, args: Vec<Expr>, at: usize) -> Parsed {
    let two = match kind {
        FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => args.len() == 3,
        FoldKind::TransformList | FoldKind::TransformMap | FoldKind::TransformMapEntry => true,
        FoldKind::Filter | FoldKind::Map => false,
    };
    let mut all = args.into_iter();
    let mut name_of = || match all.next() {
        Some(Expr { kind: Kind::Ident(n), .. }) => Ok(n),
        other => fail(other.map_or(at, |e| e.at), "argument is not an identifier"),
    };
    let var = name_of()?;
    let second = if two { Some(name_of()?) } else { None };
    let (first, last) = (all.next(), all.next());
    let (filter, body) = match (first, last) {
        (Some(f), Some(b)) => (Some(f), b),
        (Some(b), None) => (None, b),
        _ => return fail(at, "a macro lacks its body"),
    };
    node(Kind::Fold(Box::new(Fold { kind, range, var, second, filter, body })), at)
}

/// `optMap` and `optFlatMap`.
fn inside(value: Expr, macro_name: &str, args: Vec<Expr>, at: usize) -> Parsed {
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(Expr { kind: Kind::Ident(name), .. }), Some(body)) => {
            let (value, body) = (Box::new(value), Box::new(body));
            node(Kind::Inside { name, value, body, flat: macro_name == "optFlatMap" }, at)
        }
        (var, _) => {
            let why = format!("{macro_name}() variable name must be a simple identifier");
            fail(var.map_or(at, |v| v.at), why)
        }
    }
}

/// `l.sortBy(x, key)`: the list bound to a name, sorted by a list of its keys.
fn sorted(l: Expr, args: Vec<Expr>, at: usize) -> Parsed {
    const NAME: &str = "@__sortBy_input__";
    if let Kind::Literal(_) | Kind::Map(_) | Kind::Message { .. } = l.kind {
        let why =
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return fail(l.at, why);
    }
    let bound = || node(Kind::Ident(NAME.into()), at);
    let keys = fold(FoldKind::Map, bound()?, args, at)?;
    let target = Some(Box::new(bound()?));
    let body = node(Kind::Call { name: "@sortByAssociatedKeys".into(), target, args: vec![keys] }, at)?;
    node(Kind::Bind { name: NAME.into(), value: Box::new(l), body: Box::new(body) }, at)
}
