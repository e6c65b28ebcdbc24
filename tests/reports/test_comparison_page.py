import re

from tiny_runs import train

from ser_lib.cli import main


def test_compare_writes_a_page_with_a_picture_of_each_run(tmp_path, monkeypatch, capsys):
    first, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
    second, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp", "title=<b>Mine</b>")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(first.folder), str(second.folder)]) == 0
    printed = capsys.readouterr().out
    (page,) = tmp_path.glob("*-comparison.html")
    assert f"page: {page.name}" in printed
    html = page.read_text(encoding="utf-8")
    assert html.count("<img") == 3 and "&lt;b&gt;Mine" in html and "<b>Mine" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert all(name in page.name for name in (first.recipe.folder_name, second.recipe.folder_name))
