"""What is in each statement of a directory of psql scripts, by pglast's tree.

The tree is walked without knowing what any node is for: every field of every node.
What a name means comes from where it stands alone. One line of JSON a statement:

    sql        the statement
    relations  [catalog, schema, name, is a common table expression, is written, byte]
    functions  [dotted name, byte]
    columns    [dotted name, byte]
    types      own names of types
    operators  names of operators
    fields     names taken from composite values
    locks, into, current_of

Bytes are places of names in the statement. Statements that pglast does not read have
`error` instead; those that neither are nor wrap a query are left out.
"""

import json
import re
import sys
from pathlib import Path

from pglast import ast, parser

WRAPPERS = (ast.CopyStmt, ast.DeclareCursorStmt, ast.PrepareStmt, ast.ExplainStmt, ast.CreateTableAsStmt)
QUERIES = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
WRITES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)

# psql's :variable, :'variable' and :"variable"; not a cast, and not a slice.
VARIABLE = re.compile(r"""(?<![:\w\]'"]):(?:'\w+'|"\w+"|[A-Za-z]\w*)""")


def statements(text):
    """Splits a psql script: at semicolons outside of quotes, comments and brackets."""
    text = re.sub(r"(?ims)^(copy\b[^;\\]*\bfrom\s+stdin\b[^;]*;).*?^\\\.$", r"\1", text)
    text = re.sub(r"(?m)^\\.*$", "", text)
    text = re.sub(r"\\(gset|gexec|gdesc|g|crosstabview|bind|parse|watch)\b.*", ";", text)
    token = re.compile(
        r"--[^\n]*"
        r"|/\*"
        r"|[eE]'(?:[^'\\]|\\.|'')*'"
        r"|'(?:[^']|'')*'"
        r'|"(?:[^"]|"")*"'
        r"|\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$"
        r"|[()\[\];]",
        re.S,
    )
    start = at = depth = 0
    while found := token.search(text, at):
        at = found.end()
        piece = found.group()
        if piece == "/*":
            nested = 1
            for comment in re.finditer(r"/\*|\*/", text[at:]):
                nested += 1 if comment.group() == "/*" else -1
                if not nested:
                    at += comment.end()
                    break
        elif piece.startswith("$"):
            end = text.find(piece, at)
            at = len(text) if end < 0 else end + len(piece)
        elif piece in "([":
            depth += 1
        elif piece in ")]":
            depth = max(0, depth - 1)
        elif piece == ";" and not depth:
            yield text[start:at]
            start = at
    yield text[start:]


def fields(node):
    for name in node:
        value = getattr(node, name)
        if isinstance(value, (ast.Node, tuple)):
            yield name, value


class Listing:
    def __init__(self, sql):
        self.sql = sql
        self.found = {
            "relations": [], "functions": [], "columns": [], "types": [], "operators": [], "fields": [],
            "locks": False, "into": False, "current_of": False,
        }

    def byte(self, node):
        """Where a node stands; pglast counts characters."""
        if node.location is None:
            return None
        return len(self.sql[: node.location].encode())

    def walk(self, value, scope, parent=None, field=None):
        if isinstance(value, tuple):
            for one in value:
                if isinstance(one, (ast.Node, tuple)):
                    self.walk(one, scope, parent, field)
            return
        if isinstance(value, QUERIES) and (with_ := value.withClause):
            scope = self.ctes(with_, scope)
        self.note(value, scope, parent, field)
        for name, one in fields(value):
            if name == "withClause":
                continue
            self.walk(one, scope, value, name)

    def ctes(self, with_, scope):
        """Without RECURSIVE, each sees those before it."""
        if with_.recursive:
            scope = scope | {cte.ctename for cte in with_.ctes}
        for cte in with_.ctes:
            self.walk(cte, scope, with_, "ctes")
            scope = scope | {cte.ctename}
        return scope

    def note(self, node, scope, parent, field):
        found = self.found
        if isinstance(node, ast.RangeVar):
            if isinstance(parent, (ast.LockingClause, ast.IntoClause)):
                return
            written = isinstance(parent, WRITES) and field == "relation"
            bare = not node.schemaname and not node.catalogname
            cte = bare and not written and node.relname in scope
            found["relations"].append(
                [node.catalogname, node.schemaname, node.relname, cte, written, self.byte(node)]
            )
        elif isinstance(node, ast.FuncCall):
            name = dotted(node.funcname)
            # Postgres's own, whatever the search_path has.
            if name == "unnest" and isinstance(parent, ast.RangeFunction) and expanded(node):
                name = "pg_catalog.unnest"
            found["functions"].append([name, self.byte(node)])
        elif isinstance(node, ast.ColumnRef):
            found["columns"].append([dotted(node.fields), self.byte(node)])
        elif isinstance(node, ast.TypeName):
            if node.names:
                found["types"].append(node.names[-1].sval)
        elif isinstance(node, ast.A_Expr):
            # BETWEEN and its kin stand where an operator's name does, and name none.
            if "BETWEEN" in node.kind.name:
                return
            found["operators"].append(node.name[-1].sval)
        elif isinstance(node, ast.SubLink):
            found["operators"] += [part.sval for part in (node.operName or ())[-1:]]
        elif isinstance(node, ast.SortBy):
            found["operators"] += [part.sval for part in (node.useOp or ())[-1:]]
        elif isinstance(node, ast.A_Indirection):
            found["fields"] += [part.sval for part in node.indirection if isinstance(part, ast.String)]
        elif isinstance(node, ast.LockingClause):
            found["locks"] = True
        elif isinstance(node, ast.IntoClause):
            found["into"] = True
        elif isinstance(node, ast.CurrentOfExpr):
            found["current_of"] = True


def expanded(call):
    decorated = (call.agg_order, call.agg_filter, call.over, call.agg_star, call.agg_distinct, call.func_variadic)
    return len(call.args or ()) > 1 and not any(decorated)


def dotted(parts):
    return ".".join("*" if isinstance(part, ast.A_Star) else part.sval for part in parts)


def query(node):
    while isinstance(node, WRAPPERS):
        node = node.query
    return node if isinstance(node, QUERIES) else None


def main():
    sys.setrecursionlimit(100_000)
    for path in sorted(Path(sys.argv[1]).glob("*.sql")):
        for sql in statements(path.read_text(errors="surrogateescape")):
            sql = sql.encode(errors="replace").decode()
            try:
                tree = parser.parse_sql(sql)
            except parser.ParseError as error:
                try:
                    tree = parser.parse_sql(given := VARIABLE.sub("'x'", sql))
                    sql = given
                except parser.ParseError:
                    print(json.dumps({"file": path.stem, "sql": sql, "error": str(error)}))
                    continue
            if len(tree) != 1 or not (inner := query(tree[0].stmt)):
                continue
            listing = Listing(sql)
            listing.walk(inner, frozenset())
            print(json.dumps({"file": path.stem, "sql": sql} | listing.found))


main()
