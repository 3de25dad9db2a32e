"""The frame of a sweep's page."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }}
table {{ border-collapse: collapse; width: 100%; font-size: .85rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #eee; }}
td:first-child {{ font-variant-numeric: tabular-nums; }}
code {{ font-size: .8rem; overflow-wrap: anywhere; }}
.sub, .none {{ color: #666; }}
</style>
<script>{plotly}</script>
</head>
<body>
<h1>{name}</h1>
<p class="sub">{counts}; sought: {sought}</p>
{sections}
</body>
</html>
"""
