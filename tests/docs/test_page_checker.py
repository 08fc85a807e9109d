"""The checker of the pages notices what is wrong, and says where."""

from __future__ import annotations

import pytest


@pytest.fixture
def write(tmp_path):
    def write_page(text):
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        return path

    return write_page


@pytest.fixture
def check(write, execute, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return lambda text: execute(write(text), folder)


def test_blocks_run_in_order_and_leave_their_files_to_the_next(check):
    assert check("```bash\necho one > x\n```\n\n```python\nassert open('x').read()\n```\n") == 2


@pytest.mark.parametrize("block", ["bash\nfalse", "python\nraise SystemExit(1)"])
def test_a_failing_block_is_reported_with_page_and_line(check, page_error, block):
    with pytest.raises(page_error, match=r"^page.md:3: exit 1, expected 0"):
        check(f"# Title\n\n```{block}\n```\n")


def test_a_command_that_fails_within_a_block_is_noticed(check, page_error):
    with pytest.raises(page_error, match="exit 1, expected 0"):
        check("```bash\nfalse\ntrue\n```\n")


def test_what_a_failing_block_printed_is_reported(check, page_error):
    with pytest.raises(page_error, match="the reason"):
        check("```bash\necho the reason >&2; exit 4\n```\n")


def test_an_expected_exit_code_is_good(check):
    assert check("<!-- exit 2 -->\n```bash\nexit 2\n```\n") == 1


@pytest.mark.parametrize("code", [0, 1])
def test_another_exit_code_than_the_expected_one_is_noticed(check, page_error, code):
    with pytest.raises(page_error, match=f"exit {code}, expected 2"):
        check(f"<!-- exit 2 -->\n```bash\nexit {code}\n```\n")


def test_a_block_that_is_marked_so_is_not_executed(check):
    assert check("<!-- not executed: it would fail -->\n```bash\nfalse\n```\n") == 0


def test_output_that_was_printed_is_good(check):
    page = "```bash\necho a; echo b\n```\n\n<!-- output -->\n```text\na\nb\n```\n"
    assert check(page) == 1


@pytest.mark.parametrize("said", ["a\nc", "a", "a\nb\nc", "b\na", ""])
def test_wrong_output_is_noticed_with_page_and_line(check, page_error, said):
    page = f"```bash\necho a; echo b\n```\n\n<!-- output -->\n```text\n{said}\n```\n"
    with pytest.raises(page_error, match=r"^page.md:6: output is not what was printed"):
        check(page)


def test_a_line_of_dots_stands_for_any_lines(check):
    page = "```bash\nseq 9\n```\n<!-- output -->\n```text\n1\n…\n8\n9\n```\n"
    assert check(page) == 1


def test_a_line_after_the_dots_must_still_be_there(check, page_error):
    with pytest.raises(page_error, match="not what was printed"):
        check("```bash\nseq 9\n```\n<!-- output -->\n```text\n1\n…\n10\n```\n")


def test_lines_of_stderr_may_stand_among_others(check):
    page = "```bash\nseq 9 >&2\n```\n<!-- stderr -->\n```text\n3\n7\n```\n"
    assert check(page) == 1


@pytest.mark.parametrize("said", ["7\n3", "10"])
def test_a_wrong_line_of_stderr_is_noticed(check, page_error, said):
    with pytest.raises(page_error, match="stderr is not what was printed"):
        check(f"```bash\nseq 9 >&2\n```\n<!-- stderr -->\n```text\n{said}\n```\n")


def test_output_without_a_block_before_it_is_refused(check, page_error):
    with pytest.raises(page_error, match="output of a block that is not executed"):
        check("<!-- output -->\n```text\na\n```\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error 4.90e-07", "error 1.2e-08"),
        ("0.4 MiB, 1.31.1", "0.5 MiB, 1.32.0"),
        ("CPUExecutionProvider (11 nodes)", "CPUExecutionProvider (9 nodes)"),
        ("┃ size   ┃\n━━━━━━", "┃ size ┃\n━━━━"),
    ],
    ids=["exponents", "decimals and versions", "executed nodes", "widths"],
)
def test_what_differs_between_machines_is_masked(masked, one, other):
    assert masked(one) == masked(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("14 cells pass", "13 cells pass"), ("32x32", "32x33"), ("pass 0.1×", "mismatch 0.1×")],
)
def test_what_was_found_is_not_masked(masked, one, other):
    assert masked(one) != masked(other)


@pytest.mark.parametrize(
    "text",
    [
        "```\nanysize demo\n```\n",
        "```sh\nanysize demo\n```\n",
        "```console\n$ anysize demo\n```\n",
        "~~~shell\nanysize demo\n~~~\n",
    ],
)
def test_a_block_of_another_language_cannot_escape(blocks_of, write, page_error, text):
    with pytest.raises(page_error, match=r"^page.md:1: language"):
        blocks_of(write(text))


@pytest.mark.parametrize(
    "text",
    [
        "```text\nunmarked\n```\n",
        "<!-- not executed -->\n```bash\nfalse\n```\n",
        "<!-- skip -->\n```python\n1\n```\n",
        "<!-- output -->\n```bash\nfalse\n```\n",
    ],
    ids=["text without a marker", "no reason", "unknown marker", "a command as output"],
)
def test_a_wrong_marker_is_refused(blocks_of, write, page_error, text):
    with pytest.raises(page_error, match="has marker"):
        blocks_of(write(text))


def test_a_block_that_is_not_closed_is_refused(blocks_of, write, page_error):
    with pytest.raises(page_error, match=r"^page.md:3: the block is not closed"):
        blocks_of(write("\n\n```bash\nfalse\n"))


def test_a_python_block_can_be_a_module_that_the_next_one_imports(check):
    page = "<!-- file net.py -->\n```python\nx = 3\n```\n\n```python\nimport net\nnet.x\n```\n"
    assert check(page) == 2


def test_a_module_that_cannot_be_imported_is_noticed(check, page_error):
    with pytest.raises(page_error, match="exit 1, expected 0"):
        check("<!-- file net.py -->\n```python\nx = y\n```\n")


def test_indented_blocks_are_found(blocks_of, write):
    (block,) = blocks_of(write("- an item\n\n  ```bash\n  true\n  ```\n"))
    assert (block.text, block.line) == ("true\n", 3)


def test_a_block_whose_tool_is_missing_is_passed_over_with_its_output(check):
    page = "<!-- needs no_such_tool -->\n```bash\nfalse\n```\n\n<!-- output -->\n```text\na\n```\n"
    assert check(f"{page}\n```bash\ntrue\n```\n") == 1


@pytest.mark.parametrize("tool", ["bash", "json"])
def test_a_block_whose_tool_is_there_is_executed(check, page_error, tool):
    with pytest.raises(page_error, match="exit 1, expected 0"):
        check(f"<!-- needs {tool} -->\n```bash\nfalse\n```\n")


def test_a_file_of_another_language_is_written_and_not_run(check):
    page = "<!-- file x.mjs -->\n```javascript\nno javascript\n```\n\n```bash\ngrep no x.mjs\n```\n"
    assert check(page) == 1
