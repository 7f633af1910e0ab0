//! Functions of lists, optional values and versions, with the results that cel-go's and Kubernetes' own tests name, and
//! what they cost.

mod common;

use cel::{Env, EvalError};
use common::{eval, holds, run};

#[test]
fn what_is_true() {
    let all = [
        "lists.range(4) == [0,1,2,3]",
        "lists.range(0) == []",
        "[5,1,2,3].reverse() == [3,2,1,5]",
        "[].reverse() == []",
        "[1].reverse() == [1]",
        "['are', 'you', 'as', 'bored', 'as', 'I', 'am'].reverse() == ['am', 'I', 'as', 'bored', 'as', 'you', 'are']",
        "[false, true, true].reverse().reverse() == [false, true, true]",
        "[1,2,3,4].slice(0, 4) == [1,2,3,4]",
        "[1,2,3,4].slice(0, 0) == []",
        "[1,2,3,4].slice(1, 1) == []",
        "[1,2,3,4].slice(4, 4) == []",
        "[1,2,3,4].slice(1, 3) == [2, 3]",
        "dyn([]).flatten() == []",
        "dyn([1,2,3,4]).flatten() == [1,2,3,4]",
        "[1,[2,[3,4]]].flatten() == [1,2,[3,4]]",
        "[1,2,[],[],[3,4]].flatten() == [1,2,3,4]",
        "[1,[2,[3,4]]].flatten(2) == [1,2,3,4]",
        "[[1, 2], [3, 4]].flatten().sum() == 10",
        "[].sort() == []",
        "[1].sort() == [1]",
        "[4, 3, 2, 1].sort() == [1, 2, 3, 4]",
        "['d', 'a', 'b', 'c'].sort() == ['a', 'b', 'c', 'd']",
        "[double('NaN'), 2.0, double('NaN'), 1.0].sort().slice(0, 2) == [1.0, 2.0]",
        "[].sortBy(e, e) == []",
        "['a'].sortBy(e, e) == ['a']",
        "[-3, 1, -5, -2, 4].sortBy(e, -(e * e)) == [-5, 4, -3, -2, 1]",
        "[-3, 1, -5, -2, 4].map(e, e * 2).sortBy(e, -(e * e)) == [-10, 8, -6, -4, 2]",
        "lists.range(3).sortBy(e, -e) == [2, 1, 0]",
        "['a', 'c', 'b', 'first'].sortBy(e, e == 'first' ? '' : e) == ['first', 'a', 'b', 'c']",
        "[{'f': 'lo'}, {'f': 'hi'}].sortBy(m, m.f) == [{'f': 'hi'}, {'f': 'lo'}]",
        "[[2, 1], [1, 2]].sortBy(l, l.sortBy(i, i)[0] + l[0]).map(l, l[0]) == [1, 2]",
        "[].distinct() == []",
        "[1].distinct() == [1]",
        "[-2, 5, -2, 1, 1, 5, -2, 1].distinct() == [-2, 5, 1]",
        "['c', 'a', 'a', 'b', 'a', 'b', 'c', 'c'].distinct() == ['c', 'a', 'b']",
        "[1, 2.0, 'c', 3, 'c', 1].distinct() == [1, 2.0, 'c', 3]",
        "[1, 1.0, 2].distinct() == [1, 2]",
        "[[1], [1], [2]].distinct() == [[1], [2]]",
        "[1, 2, 3].first().value() == 1 && [1, 2, 3].last() == optional.of(3) && ![].first().hasValue() && ![].last().hasValue()",
        "optional.unwrap([optional.of(42), optional.none()]) == [42]",
        "[optional.of(42), optional.none()].unwrapOpt() == [42]",
        "[1, 2, 3].includes(2) && ![1, 2, 3].includes(4) && 'model-a'.includes('model-a') && !'model-a'.includes('model-b')",
        "[1, 2].includes(2.0) && !x.includes(1)",
        "x.?a.optMap(v, v + 1) == optional.of(2) && !x.?b.optMap(v, v + 1).hasValue()",
        "x.?a.optMap(v, v + n).orValue(0) == 8 && x.?b.optMap(v, v + n).orValue(0) == 0",
        "x.?a.optFlatMap(v, optional.ofNonZeroValue(v - 1)) == optional.none() && x.?a.optFlatMap(v, optional.of(v)).value() == 1",
        "optional.none().optMap(i, i * 2) == optional.none()",
        "optional.of(1).optMap(a, optional.of(2).optMap(b, a + b)).value().value() == 3",
        "optional.of([3, 1]).optMap(l, l.sort()).optMap(l, l[0]).value() == 1",
        "{'a': 1, 'b': 2}.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'} && [4, 5].transformMapEntry(i, v, i > 0, {v: i}) == {5: 1} && {'a': 1}.transformMapEntry(k, v, {}) == {}",
        "isSemver('1.2.3-beta.1+build.1') && !isSemver('') && !isSemver('v1.0.0') && !isSemver('01.01.01') && !isSemver('1') && !isSemver('1.1')",
        "!isSemver('', true) && isSemver('v1.0.0', true) && isSemver('01.01.01', true) && isSemver('1', true) && isSemver('1.1', true)",
        "semver('v01.01', true) == semver('1.1.0') && semver('1.2.3') != semver('1.0.0')",
        "semver('1.0.0').isLessThan(semver('1.2.3')) && !semver('1.0.0').isLessThan(semver('1.0.0'))",
        "semver('1.2.3').isGreaterThan(semver('1.0.0')) && !semver('1.0.0').isGreaterThan(semver('1.0.0'))",
        "semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('1.0.0').compareTo(semver('1.2.3')) == -1 && semver('1.2.3').compareTo(semver('1.0.0')) == 1",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
    ];
    holds(&all);
}

#[test]
fn what_fails_when_it_runs() {
    for (source, why) in [
        ("[1,2,3,4].slice(3, 0)", "cannot slice(3, 0), start index must be less than or equal to end index"),
        ("[1,2,3,4].slice(0, 10)", "cannot slice(0, 10), list is length 4"),
        ("[1,2,3,4].slice(-5, 10)", "cannot slice(-5, 10), negative indexes not supported"),
        ("[1,2,3,4].slice(-5, -3)", "cannot slice(-5, -3), negative indexes not supported"),
        ("[1,[2,[3,[4]]]].flatten(-1)", "level must be non-negative"),
        ("dyn({}).flatten()", "no such overload"),
        ("[].flatten(dyn('1'))", "no such overload"),
        ("['d', 3, 2, 'c'].sort()", "list elements must have the same type"),
        ("lists.range(-1)", "lists.range: size must be non-negative, got -1"),
        ("lists.range(1000001)", "lists.range: size 1000001 exceeds maximum allowed (1000000)"),
        ("semver('v1.0')", "No Major.Minor.Patch elements found"),
        ("dyn(1).optMap(v, v)", "no such overload"),
        ("[1, 1].transformMapEntry(i, v, {v: i})", "insert failed: key 1 already exists"),
    ] {
        assert_eq!(eval(source).err().as_deref(), Some(why), "{source}");
    }
}

#[test]
fn what_does_not_compile() {
    for (source, why) in [
        ("[[1]].sort()", "found no matching overload for 'sort' applied to 'list(list(int)).()'"),
        ("[1].flatten()", "found no matching overload for 'flatten' applied to 'list(int).()'"),
        ("optional.of(1).optMap(v.w, v)", "optMap() variable name must be a simple identifier"),
        ("optional.of(1).optFlatMap(1, v)", "optFlatMap() variable name must be a simple identifier"),
        ("n.optMap(v, v)", "found no matching overload for 'hasValue' applied to 'int.()'"),
        (
            "optional.of('a').optMap(v, v + 1)",
            "found no matching overload for '_+_' applied to '(string, int)'",
        ),
        (
            "{}.sortBy(e, e)",
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
        ),
        (
            "[1].transformMapEntry(i, v, [])",
            "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), list(dyn))'",
        ),
        ("isSemver([1, 2, 3])", "found no matching overload for 'isSemver' applied to '(list(int))'"),
    ] {
        assert_eq!(eval(source).err().as_deref(), Some(why), "{source}");
    }
}

#[test]
fn what_an_environment_leaves_out_is_not_there() {
    let env = Env::new(Vec::new()).without(&["cel.bind", "includes"]);
    for (source, why) in [
        (
            "cel.bind(v, 1, v == 1)",
            "ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n | cel.bind(v, 1, v == 1)\n | ^",
        ),
        (
            "[1].includes(1)",
            "ERROR: <input>:1:13: undeclared reference to 'includes' (in container '')\n | [1].includes(1)\n | ............^",
        ),
    ] {
        assert_eq!(env.compile(source, None).err().map(|e| e.show(source)).as_deref(), Some(why));
    }
    assert!(env.compile("[2, 1].sortBy(v, v) == [1, 2]", None).is_ok());
}

/// What a call takes from the budget, as upstream counts it, its arguments aside.
#[test]
fn what_it_costs() {
    for (source, literals, cost) in [
        ("lists.range(4)", 0, 15),
        ("[3, 2, 1].reverse()", 1, 14),
        ("[1, 2, 3].slice(1, 3)", 1, 14),
        ("[[1, 2], 3].flatten(3)", 2, 17),
        ("[1, 1, 1].distinct()", 1, 29),
        ("[2, 3, 1].sort()", 1, 29),
        ("['b', 'a', 'b', 'a', 'c', 'c'].sort()", 1, 86),
    ] {
        let mut left = 10_000;
        run(source, &mut left).expect(source);
        // Arguments are looked at once besides.
        let paid = 10_000 - left - literals * 10;
        assert!((cost..=cost + 8).contains(&paid), "{source}: {paid}");
    }
}

/// Small expressions whose work or value would be huge end at the limit, and soon.
#[test]
fn nothing_grows_without_end() {
    // Ten of the one before, on each level.
    let nested =
        (0..12).fold("[[1]]".to_owned(), |l, _| format!("{l}.map(v, [v, v, v, v, v, v, v, v, v, v])"));
    let started = std::time::Instant::now();
    for source in [
        "lists.range(1000000)".to_owned(),
        "lists.range(100).map(a, lists.range(999999))".to_owned(),
        "lists.range(1000).distinct()".to_owned(),
        "lists.range(1000).sort()".to_owned(),
        "lists.range(1000).sortBy(x, -x)".to_owned(),
        "[lists.range(500)].flatten(9223372036854775807)".to_owned(),
        format!("{nested}.flatten(100)"),
        format!("{nested}.distinct()"),
        "lists.range(400).map(i, lists.range(1000) + [i]).distinct()".to_owned(),
    ] {
        let mut budget = 1_000_000;
        let limit = EvalError::CostLimit.to_string();
        assert_eq!(run(&source, &mut budget).err(), Some(limit), "{source}");
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}
