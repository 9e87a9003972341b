"""Functions come from files, packages, folders, manifests and names; what is wrong is told by file and line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from stepwell.importing import describe
from stepwell.loading import load, place_of

MANIFEST = """\
apiVersion: stepwell.dev/v1alpha1
kind: DurableFunction
metadata: {{name: {name}}}
spec:
  triggers: [{{event: {event}}}]
  retries: {retries}
  source:
    {source}
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """No test sees another's modules."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = path


def code(function_id: str, name: str = "handle", body: str = "return 1", more: str = "") -> str:
    return dedent(f"""
        import stepwell
        {more}

        @stepwell.function(id="{function_id}", triggers=[stepwell.on_event("a/b")])
        async def {name}(ctx: stepwell.Context) -> int:
            {body}
    """)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def manifest(name: str, source: str, *, event: str = "a/b", retries: int = 4) -> str:
    return MANIFEST.format(name=name, source=source, event=event, retries=retries)


def ids(*paths: Path) -> list[str]:
    loaded = load([str(path) for path in paths])
    assert loaded.errors == (), [str(error) for error in loaded.errors]
    return [function.id for function in loaded.functions]


def test_a_file(tmp_path: Path) -> None:
    """A .py file gives its decorated functions."""
    assert ids(write(tmp_path / "one_file.py", code("one"))) == ["one"]


def test_a_folder_of_files_and_packages(tmp_path: Path) -> None:
    """A folder gives the functions of its files and packages; tests, hidden and cached files are left out."""
    write(tmp_path / "folder_a.py", code("a"))
    write(tmp_path / "pack_b" / "__init__.py", "")
    write(tmp_path / "pack_b" / "deep" / "__init__.py", "")
    write(tmp_path / "pack_b" / "deep" / "mod.py", code("b", more="from ..names import THING"))
    write(tmp_path / "pack_b" / "names.py", "THING = 1")
    for name in ("test_x.py", "conftest.py", ".hidden.py", "node_modules/y.py", "plain/z.py", "not-a-name.py"):
        write(tmp_path / name, "raise RuntimeError")
    assert ids(tmp_path) == ["a", "b"]


def test_a_package_and_a_file_in_it(tmp_path: Path) -> None:
    """A file of a package is imported by its dotted name, once, however it is named."""
    write(tmp_path / "pack_c" / "__init__.py", "")
    file = write(tmp_path / "pack_c" / "orders.py", code("c"))
    assert ids(file, tmp_path / "pack_c") == ["c"]
    assert "pack_c.orders" in sys.modules


def test_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:function` gives that function, `module` all of its functions, found from the working folder."""
    write(tmp_path / "named_d.py", code("d") + code("e", "other"))
    monkeypatch.chdir(tmp_path)
    assert [one.id for one in load(["named_d:other"]).functions] == ["e"]
    assert [one.id for one in load(["named_d"]).functions] == ["d", "e"]
    (error,) = load(["named_d:stepwell"]).errors
    assert "no durable function" in str(error)


def test_functions_imported_from_elsewhere_count_once(tmp_path: Path) -> None:
    """A function that several modules import is one function."""
    write(tmp_path / "first_f.py", code("f"))
    write(tmp_path / "second_f.py", "from first_f import handle, handle as again")
    assert ids(tmp_path) == ["f"]


def test_reload_sees_the_change_in_helpers_too(tmp_path: Path) -> None:
    """Loading again reads changed files anew, also those that are only imported."""
    write(tmp_path / "helper_g.py", 'ID = "before"')
    write(tmp_path / "main_g.py", code("g").replace('"g"', "helper_g.ID").replace("import stepwell", "import stepwell, helper_g"))
    assert ids(tmp_path) == ["before"]
    write(tmp_path / "helper_g.py", 'ID = "latter"')
    assert ids(tmp_path) == ["latter"]


def test_a_broken_reload_leaves_the_old_modules(tmp_path: Path) -> None:
    """If changed code can't be imported, the modules of before are in place again, so that live code goes on."""
    file = write(tmp_path / "main_h.py", code("h"))
    before = load([str(file)])
    module = sys.modules["main_h"]
    write(file, "import stepwell\nstepwell.nonsense()\n")
    after = load([str(file)])
    assert after.errors
    assert sys.modules["main_h"] is module
    assert module.handle is before.functions[0]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("import stepwell\nx = = 1\n", 2, "SyntaxError"),
        ("import stepwell\n\nimport no_such_module\n", 3, "no_such_module"),
        ("def f():\n    raise ValueError('why')\n\nf()\n", 2, "ValueError: why"),
        ("import sys\nsys.exit(3)\n", 2, "sys.exit()"),
        ('import stepwell\n@stepwell.function(id="x", retries=99)\nasync def f(ctx): ...\n', 2, "retries"),
    ],
)
def test_broken_files_are_told_by_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    """What goes wrong in a file is told with the file, the line and the reason, not as a traceback."""
    file = write(tmp_path / "broken_i.py", text)
    (error,) = load([str(file)]).errors
    assert (error.where, error.line) == (str(file), line)
    assert says in error.message
    assert "Traceback" not in str(error)


def test_the_good_ones_of_several_are_still_told(tmp_path: Path) -> None:
    """One broken file doesn't hide what the others hold, nor their errors."""
    write(tmp_path / "bad_j.py", "1 / 0")
    write(tmp_path / "good_j.py", code("j"))
    write(tmp_path / "worse_j.py", "import nothing_at_all")
    loaded = load([str(tmp_path)])
    assert [function.id for function in loaded.functions] == ["j"]
    assert len(loaded.errors) == 2


def test_twin_ids_are_refused_with_both_places(tmp_path: Path) -> None:
    """Two functions with one id are refused; the error names both places."""
    write(tmp_path / "first_k.py", code("k"))
    write(tmp_path / "second_k.py", code("k"))
    (error,) = load([str(tmp_path)]).errors
    assert "first_k.py:" in str(error)
    assert "second_k.py:" in str(error)


def test_a_file_that_shadows_a_module_is_told(tmp_path: Path) -> None:
    """A file whose name is already taken by another module is refused rather than mixed up with it."""
    (error,) = load([str(write(tmp_path / "json.py", code("l")))]).errors
    assert "rename the file" in str(error)


@pytest.mark.parametrize("given", ["no/such/folder", "nothing.py", "nothing.yaml"])
def test_missing_paths_are_told(given: str) -> None:
    """A path that isn't there is told as such."""
    (error,) = load([given]).errors
    assert "there is no such file" in str(error)


def test_empty_folders_and_odd_files_are_told(tmp_path: Path) -> None:
    """A folder with nothing to serve, and a file of another kind, are told as such."""
    write(tmp_path / "notes.txt", "hello")
    assert "holds no" in str(load([str(tmp_path)]).errors[0])
    assert "neither" in str(load([str(tmp_path / "notes.txt")]).errors[0])


def test_an_inline_manifest(tmp_path: Path) -> None:
    """A manifest with inline code gives a function with the manifest's configuration."""
    text = manifest("m", "inline: {code: 'async def go(ctx): return 1', handler: go}", event="x/y", retries=2)
    loaded = load([str(write(tmp_path / "m.yaml", text))])
    assert loaded.errors == ()
    assert (loaded.functions[0].id, loaded.functions[0].spec.retries) == ("m", 2)
    assert loaded.manifests[0].name == "m"


def test_an_image_manifest_beside_its_code_wins_over_the_decorator(tmp_path: Path) -> None:
    """A manifest that names a decorated function is the truth; what the decorator says otherwise is noted with its line."""
    write(tmp_path / "orders_n.py", code("n"))
    write(tmp_path / "n.yaml", manifest("n", "image: {image: 'registry/shop:1', handler: 'orders_n:handle'}", retries=7))
    loaded = load([str(tmp_path)])
    assert loaded.errors == ()
    assert [(one.id, one.spec.retries) for one in loaded.functions] == [("n", 7)]
    (note,) = loaded.notes
    assert "retries is 4" in note
    assert "orders_n.py:" in note


def test_a_config_map_manifest_takes_the_file_beside_it(tmp_path: Path) -> None:
    """Code that a cluster keeps in a ConfigMap lies beside the manifest here."""
    write(tmp_path / "code" / "fn_o.py", "async def go(ctx): return 1")
    file = write(tmp_path / "code" / "o.yaml", manifest("o", "configMap: {name: shop, key: fn_o.py, handler: go}"))
    assert ids(file) == ["o"]


def test_other_yaml_in_a_folder_is_none_of_ours(tmp_path: Path) -> None:
    """YAML of other kinds in a folder is left alone; named itself, it is refused."""
    write(tmp_path / "p.py", code("p"))
    other = write(tmp_path / "deployment.yaml", "kind: Deployment\n")
    assert ids(tmp_path) == ["p"]
    assert load([str(other)]).errors


@pytest.mark.parametrize(
    "source",
    [
        "inline: {code: 'async def go(ctx): return 1', handler: gone}",
        "inline: {code: 'async def go(ctx: return 1', handler: go}",
        "inline: {code: '1 / 0', handler: go}",
        "image: {image: i, handler: 'no_such_module_q:go'}",
        "configMap: {name: c, key: gone.py, handler: go}",
        "http: {url: 'https://app/api/inngest', functionId: q}",
        "inline: {handler: go}",
        "{}",
    ],
)
def test_manifests_without_usable_code_are_told(tmp_path: Path, source: str) -> None:
    """A manifest whose code isn't there, is broken, or can't be run here is told by its file."""
    file = write(tmp_path / "q.yaml", manifest("q", source))
    errors = load([str(file)]).errors
    assert errors
    assert "q.yaml" in str(errors[0])


def test_places_are_told() -> None:
    """An error from nowhere in particular is told with what was asked for."""
    assert str(describe(ValueError("x"), "somewhere")) == "somewhere: ValueError: x"
    assert place_of.__doc__
