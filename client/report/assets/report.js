// Draws the charts of the page: one after the other, so that reading can begin at once, and again when the page's width changes.
(function () {
'use strict';
var root = document.documentElement, views = [];
var tip = document.createElement('div');
tip.className = 'tip';
tip.hidden = true;
document.body.appendChild(tip);

// Plain text only: names in it are other people's.
function showTip(handler, event, item, value) {
  if (value == null || value === '') { tip.hidden = true; return; }
  tip.textContent = String(value);
  tip.hidden = false;
  var left = Math.min(event.clientX + 14, root.clientWidth - tip.offsetWidth - 8);
  var top = event.clientY + 18 + tip.offsetHeight > root.clientHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
  tip.style.left = Math.max(8, left) + 'px';
  tip.style.top = Math.max(8, top) + 'px';
}

function draw(figure) {
  var plot = figure.querySelector('.plot');
  try {
    var spec = JSON.parse(figure.querySelector('script').textContent);
    var view = new vega.View(vega.parse(spec, null, {ast: true}), {
      renderer: 'svg', expr: vega.expressionInterpreter, tooltip: showTip, hover: false
    });
    view.signal('total', plot.clientWidth).initialize(plot);
    views.push({view: view, plot: plot, width: plot.clientWidth});
    return view.runAsync();
  } catch (error) {
    plot.textContent = 'This chart could not be drawn: ' + error.message;
    throw error;
  }
}

function fit(entry, width) {
  if (width > 0 && width !== entry.width) {
    entry.width = width;
    entry.view.signal('total', width).run();
  }
}

var waiting = false;
window.addEventListener('resize', function () {
  if (waiting) { return; }
  waiting = true;
  requestAnimationFrame(function () {
    waiting = false;
    views.forEach(function (entry) { fit(entry, entry.plot.clientWidth); });
  });
});
// On paper the text column is about so wide, whatever the window is.
window.addEventListener('beforeprint', function () { views.forEach(function (entry) { fit(entry, 660); }); });
window.addEventListener('afterprint', function () { views.forEach(function (entry) { fit(entry, entry.plot.clientWidth); }); });

var figures = Array.prototype.slice.call(document.querySelectorAll('figure.chart'));
(function next() {
  var figure = figures.shift();
  if (!figure) { root.setAttribute('data-drawn', 'true'); return; }
  Promise.resolve().then(function () { return draw(figure); }).catch(function (error) { console.error(error); }).then(function () {
    setTimeout(next, 0);
  });
})();
})();
