// A small graph of the last minute.

export class Graph {
  constructor(canvas, points = 120) {
    this.canvas = canvas;
    this.points = points;
    this.values = [];
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > this.points) this.values.shift();
    this.draw();
  }

  draw() {
    const {width, height} = this.canvas;
    const context = this.canvas.getContext('2d');
    const style = getComputedStyle(document.documentElement);
    const top = Math.max(...this.values, 1) * 1.15;
    const x = (i) => width - (this.values.length - 1 - i) * (width / (this.points - 1));
    const y = (value) => height - 2 - (value / top) * (height - 4);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = style.getPropertyValue('--line');
    context.beginPath();
    context.moveTo(0, height - 1);
    context.lineTo(width, height - 1);
    context.stroke();
    context.strokeStyle = style.getPropertyValue('--accent');
    context.lineWidth = 2;
    context.lineJoin = 'round';
    context.beginPath();
    this.values.forEach((value, i) => context[i ? 'lineTo' : 'moveTo'](x(i), y(value)));
    context.stroke();
  }
}
