//! Functions and operators over expressions, by what they give.

use super::Of::{self, Bool, Date, Inet, Int, Json, Num, Text, Time};
use super::{Generator, Scope};

/// Operands of every type.
struct Operands {
    text: String,
    other: String,
    number: String,
    whole: String,
    date: String,
    time: String,
    json: String,
    inet: String,
    truth: String,
    /// A whole row
    row: String,
    /// The table that matters most, and a governed column of it
    main: &'static str,
    column: &'static str,
}

impl Generator {
    pub(super) fn operation(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        let mut any = |of| self.expression(of, depth, scope);
        let (text, other, number, whole) = (any(Text), any(Text), any(Num), any(Int));
        let (date, time, json, inet, truth) =
            (any(Date), any(Time), any(Json), any(Inet), any(Bool));
        let aliases: Vec<&String> = scope.iter().map(|(alias, _, _)| alias).collect();
        let row = match aliases.is_empty() || self.chance(50) {
            true => "ROW(1, 'x')".to_owned(),
            false => aliases[self.below(aliases.len())].clone(),
        };
        let operands = Operands {
            text,
            other,
            number,
            whole,
            date,
            time,
            json,
            inet,
            truth,
            row,
            main: self.main(),
            column: self.governed(),
        };
        match of {
            Int => self.whole(operands),
            Num => self.number(operands),
            Text => self.text(operands),
            Date => self.date(operands),
            Time => self.time(operands),
            Json => self.json(operands),
            Inet => self.inet(operands),
            Bool => self.truth(operands),
        }
    }

    fn whole(&mut self, of: Operands) -> String {
        let Operands {
            text,
            other,
            number,
            whole,
            date,
            inet,
            json,
            row,
            main,
            column,
            ..
        } = of;
        match self.below(22) {
            0 => format!("length({text})"),
            1 => format!("({whole} + 1)"),
            2 => format!("(100 / {whole})"),
            3 => format!("ascii({text})"),
            4 => format!("strpos({text}, '@')"),
            5 => format!("hashtext({text})"),
            6 => format!("date_part('day', {date})::int"),
            7 => format!("CAST(right({text}, 4) AS int)"),
            8 => format!("masklen({inet})"),
            9 => format!("(SELECT count(*)::int FROM {main} z WHERE z.{column} = {text})"),
            10 => format!("pg_column_size({text})"),
            11 => format!("width_bucket({number}, 0, 100000, 9)"),
            12 => format!("position({other} IN {text})"),
            13 => format!("EXTRACT(year FROM {date})::int"),
            14 => format!("cardinality(string_to_array({text}, 'e'))"),
            15 => format!("num_nonnulls(VARIADIC ARRAY[{text}, {other}])"),
            16 => format!("jsonb_array_length(jsonb_build_array({json}, {row}))"),
            17 => format!("octet_length({text}) % 9"),
            18 => format!("(SELECT count({row})::int)"),
            19 => format!("bit_length({text})"),
            20 => format!("({whole} # 5)"),
            _ => format!("(1 / ({whole} - length({text})))"),
        }
    }

    fn number(&mut self, of: Operands) -> String {
        let Operands {
            text,
            number,
            whole,
            json,
            ..
        } = of;
        match self.below(13) {
            0 => format!("({number} * 1.5)"),
            1 => format!("({number} / {whole})"),
            2 => format!("sqrt(({number})::numeric)"),
            3 => format!("CAST({text} AS numeric)"),
            4 => format!("ln(({number})::numeric)"),
            5 => format!("round(({number})::numeric, {whole})"),
            6 => format!("public.cents({number})::numeric"),
            7 => format!("({json} -> 'n')::numeric"),
            8 => format!("to_number({text}, '999.9')"),
            9 => format!("power({number}, {whole})"),
            10 => format!("- {number}"),
            11 => format!("({number} OPERATOR(pg_catalog.+) 1)"),
            _ => format!("({number} - ({number} % 7))"),
        }
    }

    fn text(&mut self, of: Operands) -> String {
        let Operands {
            text,
            other,
            number,
            whole,
            date,
            time,
            json,
            inet,
            truth,
            row,
            main,
            column,
        } = of;
        match self.below(50) {
            0 => format!("upper({text})"),
            1 => format!("({text} || {other})"),
            2 => format!("substr({text}, 1, {whole})"),
            3 => format!("md5({text})"),
            4 => format!("reverse({text})"),
            5 => format!("({row})::text"),
            6 => format!("to_jsonb({row})::text"),
            7 => format!("row_to_json({row})::text"),
            8 => format!("format('%s %L', {text}, {row})"),
            9 => format!("encode(convert_to({text}, 'UTF8'), 'hex')"),
            10 => format!("regexp_replace({text}, '[a-m]', '#', 'g')"),
            11 => format!("split_part({text}, '@', 2)"),
            12 => format!("to_char({number}, '999990.99')"),
            13 => format!("to_char({date}, 'YYYY-MM-DD')"),
            14 => format!("host({inet})"),
            15 => format!("({json} ->> 'mail')"),
            16 => format!("{json}::text"),
            17 => format!("xmlelement(name a, xmlattributes({text} AS b), {other})::text"),
            18 => format!("(xpath('/a/text()', xmlelement(name a, {text})))[1]::text"),
            19 => format!("ARRAY[{text}, {other}]::text"),
            20 => format!(
                "array_to_string(ARRAY(SELECT y.{column} FROM {main} y ORDER BY y.id), {text})"
            ),
            21 => format!("ts_headline({text}, to_tsquery('simple', 'call'))"),
            22 => format!("to_tsvector('simple', {text})::text"),
            23 => format!("translate({text}, '0123456789', '')"),
            24 => format!("repeat({text}, {whole} % 4)"),
            25 => format!("({text} COLLATE \"C\")"),
            26 => format!("quote_nullable({text})"),
            27 => format!("{time}::text"),
            28 => format!("concat_ws('-', {text}, {number}, {row})"),
            29 => format!("concat_ws('-', VARIADIC ARRAY[{text}, {other}])"),
            30 => format!("format('%s/%s', VARIADIC ARRAY[{text}, {other}])"),
            31 => format!("substring({text} FROM '[0-9]+')"),
            32 => format!("substring({text} FROM 2 FOR {whole})"),
            33 => format!("overlay({text} PLACING {other} FROM 2)"),
            34 => format!("trim(BOTH 'p' FROM {text})"),
            35 => format!("(SELECT {row}::text)"),
            36 => format!("CAST({row} AS text)"),
            37 => format!("(string_to_array({text}, '@'))[2]"),
            38 => format!("(ARRAY[{text}, {other}])[1:1]::text"),
            39 => format!("normalize({text}, NFD)"),
            40 => format!("xmlforest({text} AS f, {number} AS n)::text"),
            41 => format!("pg_typeof({text})::text"),
            42 => format!("({time} AT TIME ZONE 'Asia/Tokyo')::text"),
            43 => format!("regexp_substr({text}, '[a-z]+', 1, 2)"),
            44 => format!("CASE WHEN {truth} THEN {text} ELSE ({row})::text END"),
            45 => format!("jsonb_pretty({json})"),
            46 => format!(
                "(SELECT string_agg(s.{column}, ';' ORDER BY s.id) FROM {main} s WHERE s.{column} < {text})"
            ),
            47 => format!("array_to_json(ARRAY[{text}, {other}])::text"),
            48 => format!("lpad({text}, 8, {other})"),
            _ => format!("greatest({text}, {other})"),
        }
    }

    fn date(&mut self, of: Operands) -> String {
        let Operands {
            text,
            whole,
            date,
            time,
            ..
        } = of;
        match self.below(7) {
            0 => format!("({date} + {whole})"),
            1 => format!("CAST({text} AS date)"),
            2 => format!("date_trunc('month', {date})::date"),
            3 => format!("({time})::date"),
            4 => format!("make_date({whole} + 1990, 2, 3)"),
            5 => format!("greatest({date}, DATE '1980-01-01')"),
            _ => format!("to_date({text}, 'YYYY-MM-DD')"),
        }
    }

    fn time(&mut self, of: Operands) -> String {
        let Operands {
            text,
            whole,
            date,
            time,
            ..
        } = of;
        match self.below(7) {
            0 => format!("({time} + interval '1 day')"),
            1 => format!("CAST({text} AS timestamptz)"),
            2 => format!("({time} + interval(3) '1.23456 s')"),
            3 => format!("({date} + time '10:00') AT TIME ZONE 'UTC'"),
            4 => format!("({time} - make_interval(days => {whole}))"),
            5 => format!("(({time} AT LOCAL) AT TIME ZONE 'UTC')"),
            _ => format!("date_trunc('day', {time})"),
        }
    }

    fn json(&mut self, of: Operands) -> String {
        let Operands {
            text,
            other,
            number,
            json,
            row,
            main,
            ..
        } = of;
        match self.below(15) {
            0 => format!("to_jsonb({text})"),
            1 => format!("to_jsonb({row})"),
            2 => format!("({json} -> 'mail')"),
            3 => format!("jsonb_build_object('k', {text}, 'r', {row})"),
            4 => format!("jsonb_path_query_array({json}, '$.**')"),
            5 => format!("CAST({text} AS jsonb)"),
            6 => format!("jsonb_build_array(VARIADIC ARRAY[{text}, {other}])"),
            7 => format!("({json} #> '{{list,0}}')"),
            8 => format!("jsonb_set({json}, '{{to}}', to_jsonb({text}))"),
            9 => format!("({json})['mail']"),
            10 => format!("jsonb_strip_nulls({json} || to_jsonb({row}))"),
            11 => format!("(SELECT jsonb_object_agg(o.id, o.region) FROM {main} o)"),
            12 => format!("JSON_QUERY({json}, '$.list')"),
            13 => format!("jsonb_path_query_first({json}, '$ ? (@.n > $x)', '{{\"x\": 1}}')"),
            _ => format!("({json} || jsonb_build_array({number}))"),
        }
    }

    fn inet(&mut self, of: Operands) -> String {
        let Operands {
            text, whole, inet, ..
        } = of;
        match self.below(5) {
            0 => format!("CAST({text} AS inet)"),
            1 => format!("broadcast({inet})"),
            2 => format!("set_masklen({inet}, 16)"),
            3 => format!("({inet} & inet '255.255.0.0')"),
            _ => format!("({inet} + {whole})"),
        }
    }

    fn truth(&mut self, of: Operands) -> String {
        let Operands {
            text,
            other,
            number,
            whole,
            date,
            time,
            json,
            inet,
            truth,
            row,
            main,
            column,
        } = of;
        match self.below(36) {
            0 => format!("({text} = {other})"),
            1 => format!("({text} LIKE 'p%')"),
            2 => format!("({text} ~ '[0-9]{{4}}$')"),
            3 => format!("({text} IN (SELECT v.{column} FROM {main} v))"),
            4 => format!("({number} BETWEEN 40000 AND 40100)"),
            5 => format!("({whole} > 2)"),
            6 => format!("({text} IS NOT DISTINCT FROM {other})"),
            7 => format!("EXISTS (SELECT 1 FROM {main} u WHERE u.{column} > {text})"),
            8 => format!("({truth} AND {whole} < 30)"),
            9 => format!("(NOT {truth})"),
            10 => format!("({date} > DATE '1970-02-01')"),
            11 => format!("({inet} << inet '10.1.0.0/16')"),
            12 => format!("({json} @> '{{\"n\": 3}}')"),
            13 => format!("({text} SIMILAR TO 'person[0-9]+@%')"),
            14 => format!(
                "({whole} < ALL (SELECT length(s.{column}) FROM {main} s WHERE s.{column} IS NOT NULL))"
            ),
            15 => format!("({number} BETWEEN SYMMETRIC 41000 AND {number} - 7)"),
            16 => format!("({text} NOT LIKE {other} ESCAPE '!')"),
            17 => format!("({text} ILIKE ANY (ARRAY['%1@%', {other}]))"),
            18 => format!("({text} !~* 'X$')"),
            19 => format!("(({text}, {number}) < ({other}, 41000))"),
            20 => format!("(ROW({text}, {whole}) IS DISTINCT FROM ROW({other}, 1))"),
            21 => format!("({row} IS NOT NULL)"),
            22 => format!("({row} = {row})"),
            23 => format!(
                "(({time}, interval '1 h') OVERLAPS (timestamptz '2025-01-01', timestamptz '2025-01-02'))"
            ),
            24 => format!("(ARRAY[{text}] && ARRAY[{other}, 'x'])"),
            25 => format!("({text} = ANY (ARRAY(SELECT a.{column} FROM {main} a)))"),
            26 => format!("({text} ISNULL)"),
            27 => format!("({text} IS NFC NORMALIZED)"),
            28 => format!("({truth} IS NOT UNKNOWN)"),
            29 => format!("({text} ^@ 'p')"),
            30 => format!("({json} ? 'mail')"),
            31 => format!("({text} IS JSON OBJECT)"),
            32 => format!("starts_with({text}, {other})"),
            33 => format!("(to_tsvector('simple', {text}) @@ plainto_tsquery('simple', {other}))"),
            34 => format!("({whole} <> ALL (VALUES (1), (length({text}))))"),
            _ => format!("(({text}, {whole}) IN (SELECT r.{column}, r.id FROM {main} r))"),
        }
    }
}
